import numpy as np
import pytest
import torch

from glasshouse.explanation.maps.cam import (
    CAMS,
    eigen_cam,
    first_component,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from tests.on_mps import OnMps

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 1.0]]]])
G = torch.tensor([[[[1.0, 1.0], [-1.0, 3.0]], [[-2.0, 0.0], [0.0, -2.0]]]])


def test_the_definitions_on_two_channels_of_two_by_two() -> None:
    assert grad_cam(A, G).tolist() == [[[1, 1], [3, 3]]]
    assert hires_cam(A, G).tolist() == [[[1, 2], [-3, 10]]]
    assert layer_cam(A, G).tolist() == [[[1, 2], [0, 12]]]
    np.testing.assert_allclose(xgrad_cam(A, G)[0], [[1.2, 1.4], [3.6, 3.8]], rtol=1e-6)


def test_grad_cam_plus_plus_follows_equation_19() -> None:
    weights = []
    for activation, gradient in zip(A[0].double(), G[0].double(), strict=True):
        total = 0.0
        for g in gradient.flatten().tolist():
            below = 2 * g**2 + float(activation.sum()) * g**3
            total += (g**2 / below if below else 0.0) * max(g, 0.0)
        weights.append(total)
    expected = sum(w * a for w, a in zip(weights, A[0].double(), strict=True))
    torch.testing.assert_close(grad_cam_plus_plus(A.double(), G.double())[0], expected)


def test_a_channel_that_is_dead_makes_no_map_undefined() -> None:
    nothing = torch.zeros_like(A)
    for name, cam in CAMS.items():
        assert torch.isfinite(cam(nothing, G)).all(), name
        assert torch.isfinite(cam(A, nothing)).all(), name


@pytest.mark.parametrize("shape", [(2, 30, 4, 5), (2, 6, 7, 8)])
def test_eigen_cam_is_the_first_principal_component(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    activation = torch.rand(shape, dtype=torch.float64)
    rows = activation.flatten(2).transpose(1, 2)
    rows = rows - rows.mean(1, keepdim=True)
    left, values, _ = torch.linalg.svd(rows, full_matrices=False)
    expected = (left[..., 0] * values[:, :1]).view(shape[0], *shape[2:])
    # A component has no sign of its own: this one grows with the mean of the channels.
    mean = activation.mean(1)
    agreement = (expected * (mean - mean.mean((1, 2), keepdim=True))).sum((1, 2), keepdim=True)
    expected = expected * agreement.sign()
    torch.testing.assert_close(eigen_cam(activation), expected, rtol=1e-6, atol=1e-9)


def test_eigen_cam_is_largest_where_most_channels_are_active() -> None:
    activation = torch.zeros(2, 3, 4, 4)
    activation[0, :, 1, 2] = torch.tensor([5.0, 4.0, 1.0])
    # All are active but in one place.
    activation[1] = 5.0
    activation[1, :, 3, 0] = 0.0
    bright, dark = eigen_cam(activation)
    assert bright.argmax() == 1 * 4 + 2
    assert dark.argmin() == 3 * 4 + 0


def test_the_component_is_precise_in_float32() -> None:
    torch.manual_seed(0)
    rows = torch.rand(1, 49, 512)
    rows = rows - rows.mean(1, keepdim=True)
    exact = first_component(rows.double())[0]
    found = first_component(rows)[0].double()
    assert float((found.abs() - exact.abs()).abs().max() / exact.abs().max()) < 1e-4


@pytest.mark.parametrize("shape", [(2, 6, 30), (2, 30, 6)])
def test_the_component_is_that_of_the_cpu_where_a_device_has_no_float64(
    shape: tuple[int, ...],
) -> None:
    rows = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first_component(rows.as_subclass(OnMps)), first_component(rows))
