import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.saliency import integrated_gradients, occlusion, smooth_grad
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.rng import derive
from tests.explanation.nets import NAMES, classifier_of, module_net, some_images


class Linear(nn.Module):
    """Logits that are sums of pixels, so that every answer is known."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(len(NAMES), 3 * 8 * 8))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


ONE = torch.eye(len(NAMES))[[2]]


class Cubic(Linear):
    """Logits that are sums of cubes: a gradient that depends on where it is taken."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x**3)


def weights_of(net: Linear) -> Tensor:
    return net.weight[2].view(1, 3, 8, 8).detach()


def test_a_linear_net_has_its_weights_as_every_kind_of_gradient() -> None:
    net, x = Linear(), torch.rand(1, 3, 8, 8)
    weights = net.weight[2].view(1, 3, 8, 8).detach()
    torch.testing.assert_close(smooth_grad(net, x, ONE, samples=3), weights)
    torch.testing.assert_close(integrated_gradients(net, x, ONE, steps=4), weights * x)


def test_smoothgrad_averages_over_different_noise_in_proportion_to_each_image() -> None:
    net = Cubic()
    # A bright image next to a dim one, which has a tenth of its range.
    images = torch.rand(2, 3, 8, 8) * torch.tensor([1.0, 0.1]).view(2, 1, 1, 1)
    found = smooth_grad(net, images, ONE.repeat(2, 1), samples=3, noise=0.5, seed=7)
    expected = torch.zeros_like(images)
    for sample in range(3):
        generator = torch.Generator().manual_seed(derive(7, "smoothgrad", sample))
        draw = torch.randn(3, 8, 8, generator=generator)
        for place, image in enumerate(images):
            noisy = image + 0.5 * (image.max() - image.min()) * draw
            expected[place] += weights_of(net)[0] * 3 * noisy**2 / 3
    torch.testing.assert_close(found, expected)
    alone = smooth_grad(net, images[1:], ONE, samples=3, noise=0.5, seed=7)
    torch.testing.assert_close(found[1:], alone)


def test_more_samples_of_smoothgrad_are_less_noisy() -> None:
    net, x = Cubic(), torch.full((1, 3, 8, 8), 0.5)
    x[0, 0, 0, 0] = 1.5
    # The mean of (x + noise)^2 is x^2 plus the variance of the noise.
    expected = weights_of(net) * 3 * (x**2 + 0.3**2)
    errors = [
        float((smooth_grad(net, x, ONE, samples=samples, noise=0.3) - expected).norm())
        for samples in (4, 100)
    ]
    assert errors[1] < errors[0] / 3


def test_integrated_gradients_start_at_their_baseline() -> None:
    net, x, nothing = Cubic(), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    found = integrated_gradients(net, x, ONE, baseline=nothing, steps=4)
    torch.testing.assert_close(found, weights_of(net) * (x**3 - nothing**3))
    gained = float((net(x) - net(nothing))[0, 2].detach())
    assert float(found.sum()) == pytest.approx(gained, rel=1e-4)


def test_occlusion_is_the_fall_of_the_score() -> None:
    net, x = Linear(), torch.rand(2, 3, 8, 8)
    found = occlusion(net, x, ONE.repeat(2, 1), window=1, stride=1)
    expected = (net.weight[2].view(3, 8, 8) * x).sum(1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_occlusion_covers_every_pixel_whatever_the_window() -> None:
    for window, stride in [(3, 2), (5, 4), (8, 1), (7, 7)]:
        x = torch.rand(1, 3, 8, 8)
        assert torch.isfinite(occlusion(Linear(), x, ONE, window=window, stride=stride)).all()


def test_integrated_gradients_sum_to_what_the_score_gains() -> None:
    classifier = classifier_of(module_net(), double=True)
    settings = ExplainSettings(steps=400)
    (found,) = explain(
        classifier,
        some_images(1),
        methods=["integrated-gradients"],
        target_class=1,
        settings=settings,
    )
    nothing = classifier.net(torch.zeros(1, 3, 16, 16, dtype=torch.float64))[0, 1].item()
    gained = found.logits[0, 1] - nothing
    # The gradient jumps where a ReLU switches, which no quadrature follows exactly.
    assert abs(found.maps.sum() - gained) < 1e-3 * np.abs(found.maps).sum()


def test_smoothgrad_depends_on_the_seed_alone() -> None:
    classifier = classifier_of(module_net())
    # Of different ranges, so that an image that borrowed its neighbour's noise would show it.
    images = some_images(3) // np.array([1, 10, 100], dtype=np.uint8)[:, None, None, None]
    first, again, other = (
        explain(
            classifier,
            images,
            methods=["smoothgrad"],
            target_class=0,
            settings=ExplainSettings(samples=2, seed=seed, batch_size=size),
        )[0].maps
        for seed, size in [(0, 16), (0, 1), (1, 16)]
    )
    np.testing.assert_allclose(first, again, rtol=1e-4, atol=1e-9)
    assert np.abs(first - other).max() > 1e-6
    assert np.ptp(images.reshape(3, -1), axis=1).tolist() == [255, 25, 2], "equal noise for all"
