from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from glasshouse.errors import DataError, ModelError, UsageError
from glasshouse.explanation.explain import explain
from glasshouse.explanation.inputs import as_batch
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.explanation.tensors import explain_tensors
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.preprocessing import scale


def net(channels: int, outputs: int = 5) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(channels)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 5 * 6, outputs),
        )


def tensors(channels: int, count: int = 3) -> Tensor:
    return torch.randn(count, channels, 10, 12, generator=torch.Generator().manual_seed(7)) * 40


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_maps_of_any_channel_count_equal_captums(channels: int) -> None:
    model, inputs, targets = net(channels), tensors(channels), torch.tensor([4, 0, 2])
    saliency, cam = explain_tensors(model, inputs, targets, layer="2")
    expected = Saliency(model).attribute(inputs.clone().requires_grad_(), targets, abs=False)
    assert saliency.channels is not None
    assert np.allclose(saliency.channels, expected.numpy(), atol=1e-6)
    assert np.allclose(saliency.maps, expected.abs().amax(1).numpy(), atol=1e-6)
    layer_cam = LayerGradCam(model, model[2]).attribute(inputs, targets)
    assert np.allclose(cam.maps, layer_cam[:, 0].detach().numpy(), rtol=1e-4, atol=1e-4)
    assert saliency.targets.tolist() == [4, 0, 2] and saliency.class_names == ()
    assert saliency.images.shape == (3, 3, 10, 12)


def test_occlusion_covers_all_channels_of_a_tensor() -> None:
    model, inputs = net(4), tensors(4, 2)
    (found,) = explain_tensors(
        model, inputs, 1, methods="occlusion", settings=ExplainSettings(window=2)
    )
    expected = Occlusion(model).attribute(
        inputs, target=1, sliding_window_shapes=(4, 2, 2), strides=(4, 1, 1)
    )
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert np.allclose(found.maps[inner], expected.mean(1).numpy()[inner], atol=1e-3)


def test_maps_of_images_are_those_of_their_inputs() -> None:
    model, plain = net(3), Preprocessing(10, 12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 10, 12), dtype=np.uint8)
    methods: Any = ("saliency", "guided", "grad-cam", "integrated-gradients")
    ours = explain(Classifier(model, plain, tuple("abcde")), pixels, methods=methods)
    theirs = explain_tensors(model, scale(torch.from_numpy(pixels), plain), methods=methods)
    for one, other in zip(ours, theirs, strict=True):
        assert one.method == other.method and one.layer == other.layer
        assert np.allclose(one.maps, other.maps, atol=1e-6)
        assert np.array_equal(one.targets, other.targets)


def test_precision_and_arrays_are_those_of_the_network() -> None:
    model = net(2).double()
    inputs = tensors(2)
    (wide,) = explain_tensors(model, inputs.numpy(), 0, methods="saliency")
    (plain,) = explain_tensors(net(2), inputs, 0, methods="saliency")
    assert np.allclose(wide.maps, plain.maps, atol=1e-6)
    assert wide.maps.dtype == np.float32


def test_the_tensors_and_the_network_are_left_as_they_were() -> None:
    model, inputs = net(2).train(), tensors(2).requires_grad_()
    before = inputs.detach().clone()
    explain_tensors(model, inputs)
    assert torch.equal(inputs.detach(), before) and inputs.grad is None
    assert model.training and all(p.grad is None for p in model.parameters())


def test_an_explanation_of_tensors_can_be_seen() -> None:
    found = explain_tensors(net(5), tensors(5, 1))
    assert all(each._repr_png_().startswith(b"\x89PNG") for each in found)
    constant = explain_tensors(net(1), torch.full((1, 1, 10, 12), 3.0), methods="saliency")
    assert constant[0].images.max() == 0


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(2, 10, 12), r"received float32 \(2, 10, 12\); a single one is inputs\[None\]"),
        (torch.zeros(1, 2, 10, 12, dtype=torch.uint8), "received uint8"),
        (torch.full((1, 2, 10, 12), torch.nan), "expected finite inputs"),
    ],
)
def test_other_inputs_are_refused(inputs: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        explain_tensors(net(2), inputs)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (5, "no class 5: expected 0 to 4"),
        (-1, "no class -1"),
        ([0, 1], "one for each of the 3"),
        ([0.5, 1, 2], "expected positions of outputs"),
        (np.eye(3), "expected positions of outputs"),
        ("cat", "expected positions of outputs"),
    ],
)
def test_targets_that_are_no_outputs_are_refused(targets: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        explain_tensors(net(2), tensors(2), targets)


def test_inputs_that_the_network_does_not_take_are_refused_with_its_layer() -> None:
    with pytest.raises(ModelError, match=r"layer 0 .Conv2d. .* its input of 5x6x6 per image"):
        explain_tensors(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), torch.rand(2, 5, 6, 6))


def test_a_network_that_returns_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected the network to return logits \(n, classes\)"):
        explain_tensors(nn.Conv2d(2, 3, 1), tensors(2))
    with pytest.raises(UsageError, match="a network first"):
        explain_tensors(lambda x: x, tensors(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 3, 4, 4), "float32"),
        ((1, 1, 4, 4), "uint8"),
        ((4, 4), "uint8"),
        ((0, 3, 4, 4), "uint8"),
    ],
)
def test_only_decoded_rgb_images_are_a_batch(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(DataError, match="expected decoded images, uint8"):
        as_batch(np.zeros(shape, dtype=dtype))
