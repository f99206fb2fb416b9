from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.errors import UsageError
from glasshouse.explanation.activations import activations
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.layer_choice import layers
from glasshouse.explanation.graph.map_layout import (
    Layouts,
    MapLayout,
    _is_sequence_first,
    candidates,
)
from glasshouse.explanation.graph.recording import record
from glasshouse.explanation.graph.region_test import RegionTest
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.class_maps import class_maps
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.models.classifier import Classifier, Preprocessing
from tests.explanation.nets import NAMES, relative
from tests.explanation.token_nets import (
    PATCHES,
    TOKEN_SIDE,
    LastAxisNet,
    TokenNet,
    WindowNet,
    seeded,
)

FIRST, LAST = (0, 1, 2, 3), (0, 3, 1, 2)


def classifier_for(net: nn.Module, height: int = TOKEN_SIDE, width: int = TOKEN_SIDE) -> Classifier:
    return Classifier(net.double(), Preprocessing(height, width), NAMES)


def images_for(classifier: Classifier, count: int = 2) -> NDArray[np.uint8]:
    size = (count, 3, classifier.preprocessing.height, classifier.preprocessing.width)
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


def cam_at(
    classifier: Classifier, layer: str | None, method: MethodName = "grad-cam"
) -> Explanation:
    images = images_for(classifier)
    (found,) = explain_page(classifier, images, methods=[method], layer=layer).explanations
    return found


def by_hand(
    classifier: Classifier, layer: str, targets: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """The output of a layer and the gradient of the explained logits there, by plain autograd."""
    kept: list[Tensor] = []
    handle = classifier.net.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output)
    )
    logits = classifier.net(as_inputs(classifier, images_for(classifier)))
    handle.remove()
    score = logits[torch.arange(len(logits)), torch.from_numpy(targets)].sum()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def layout_of(classifier: Classifier, layer: str) -> MapLayout | None:
    inputs = as_inputs(classifier, images_for(classifier)[:1])
    recording = record(classifier.net, inputs, see_all=True)
    call = next(call for call in recording.calls if call.name == layer)
    return Layouts(classifier.net, recording).find([call]).get((layer, 0))


@pytest.mark.parametrize("layer", ["block.norm", "block.dense", "norm"])
def test_a_map_of_channels_that_come_last_is_that_of_autograd_by_hand(layer: str) -> None:
    classifier = classifier_for(seeded(LastAxisNet), 16, 20)
    cam, hires = cam_at(classifier, layer), cam_at(classifier, layer, "hires-cam")
    value, gradient = by_hand(classifier, layer, cam.targets)
    assert cam.maps.shape == (2, 8, 10)
    assert relative(cam.maps, (value * gradient.mean((1, 2), keepdim=True)).sum(-1)) < 1e-6
    assert relative(hires.maps, (value * gradient).sum(-1)) < 1e-6


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (2, 0), (5, 0), (0, 3), (1, 4)])
def test_tokens_become_a_map_without_those_that_are_no_patches(before: int, after: int) -> None:
    classifier = classifier_for(seeded(TokenNet, before=before, after=after))
    cam = cam_at(classifier, "blocks.1.norm1")
    value, gradient = by_hand(classifier, "blocks.1.norm1", cam.targets)
    patches = slice(before, before + PATCHES**2)
    value, gradient = value[:, patches], gradient[:, patches]
    expected = (value * gradient.mean(1, keepdim=True)).sum(-1).view(-1, PATCHES, PATCHES)
    assert relative(cam.maps, expected) < 1e-6


class TokensFirst(nn.Module):
    """A vision transformer of torch's own layers, whose tokens are on the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.place = nn.Parameter(torch.randn(PATCHES**2 + 1, 1, 16))
        make = partial(nn.TransformerEncoderLayer, 16, 2, 32, dropout=0, norm_first=True)
        self.blocks = nn.ModuleList([make(), make()])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.stem(x).flatten(2).permute(2, 0, 1)
        tokens = torch.cat([patches.new_zeros(1, len(x), 16), patches]) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.head(self.norm(tokens.transpose(0, 1))[:, 0])
        return out


def test_tokens_on_the_first_axis_become_maps_and_rollouts() -> None:
    classifier = classifier_for(seeded(TokensFirst))
    cam = cam_at(classifier, None)
    # Behind it the class token has gathered everything, and the maps would be empty.
    assert cam.layer == "blocks.1.norm1"
    value, gradient = by_hand(classifier, "blocks.1.norm1", cam.targets)
    assert value.shape == (PATCHES**2 + 1, 2, 16)
    value, gradient = (each.transpose(0, 1)[:, 1:] for each in (value, gradient))
    expected = (value * gradient.mean(1, keepdim=True)).sum(-1).view(-1, PATCHES, PATCHES)
    assert relative(cam.maps, expected) < 1e-6 and float(expected.abs().max()) > 0
    rollout = cam_at(classifier, None, "attention-rollout").maps
    assert rollout.shape == (2, PATCHES, PATCHES) and (rollout > 0).all()
    found = layout_of(classifier, "norm")
    assert found == MapLayout(PATCHES, PATCHES, first=1)


def test_tokens_of_an_oblong_image_have_its_aspect_ratio() -> None:
    net = seeded(TokenNet)
    net.place = nn.Parameter(torch.zeros(1, 4 * 9 + 1, 16))
    assert layout_of(classifier_for(net, 16, 36), "norm") == MapLayout(4, 9, first=1)
    assert layout_of(classifier_for(net, 36, 16), "norm") == MapLayout(9, 4, first=1)


def test_the_default_layer_of_a_transformer_is_the_norm_before_its_last_attention() -> None:
    cam = cam_at(classifier_for(seeded(TokenNet)), None)
    assert cam.layer == "blocks.1.norm1" and cam.maps.shape == (2, PATCHES, PATCHES)
    assert np.abs(cam.maps).max() > 0
    said = "the last normalisation before the last attention (16 channels of 6x6, one per patch"
    assert said in " ".join(cam.notes)


def test_the_default_layer_of_a_network_with_channels_last_is_its_last_norm() -> None:
    cam = cam_at(classifier_for(seeded(LastAxisNet), 16, 20), None)
    assert cam.layer == "norm" and cam.maps.shape == (2, 8, 10)
    assert "8 channels of 8x10, channels last" in " ".join(cam.notes)
    assert "the same map" in " ".join(cam.notes)  # global average pooling and a linear layer


def test_maps_of_all_classes_follow_the_layout() -> None:
    classifier = classifier_for(seeded(LastAxisNet), 16, 20)
    cam = cam_at(classifier, "norm")
    every = class_maps(classifier, images_for(classifier), layer="norm")
    assert every.shape == (2, 5, 8, 10)
    for index, target in enumerate(cam.targets):
        assert relative(every[index, target], cam.maps[index]) < 1e-6


def test_tokens_in_another_order_than_the_patches_are_refused() -> None:
    order = torch.randperm(PATCHES**2, generator=torch.Generator().manual_seed(0))
    classifier = classifier_for(seeded(TokenNet, order=order))
    assert layout_of(classifier, "embed") == MapLayout(PATCHES, PATCHES, FIRST)
    with pytest.raises(UsageError, match=r"blocks\.1\.norm1 is \(37, 16\).*choose another layer"):
        cam_at(classifier, "blocks.1.norm1")


def test_windows_and_flat_outputs_are_refused() -> None:
    classifier = classifier_for(seeded(WindowNet), 24, 24)
    assert layout_of(classifier, "norm") is None
    with pytest.raises(UsageError, match=r"norm is \(9, 16, 8\).*choose another layer"):
        cam_at(classifier, "norm")
    with pytest.raises(UsageError, match=r"head is \(5,\)"):
        cam_at(classifier, "head")


class WeightsNet(nn.Module):
    """Attention weights ``(n, heads, tokens, tokens)`` that a convolution mixes look like maps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(2, 2, 1)
        self.softmax, self.head = nn.Softmax(-1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        heads = tokens.view(len(x), -1, 2, 8).transpose(1, 2)
        weights = self.mix(self.softmax(heads @ heads.transpose(-2, -1)))
        logits: Tensor = self.head((weights @ heads).transpose(1, 2).flatten(2).mean(1))
        return logits


@pytest.mark.parametrize("layer", ["softmax", "mix"])
def test_attention_weights_are_no_map(layer: str) -> None:
    classifier = classifier_for(seeded(WeightsNet))
    with pytest.raises(UsageError, match=rf"{layer} is \(2, 36, 36\)"):
        cam_at(classifier, layer)


class SplitNet(nn.Module):
    """Scales each colour by itself, as torchvision's GoogLeNet does, before its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        scaled = torch.cat([x[:, colour, None] * (colour + 1) for colour in range(3)], 1)
        logits: Tensor = self.head(self.conv(scaled).mean((2, 3)))
        return logits


def test_colours_that_are_taken_apart_do_not_hide_the_axes() -> None:
    classifier = classifier_for(seeded(SplitNet), 16, 20)
    assert layout_of(classifier, "conv") == MapLayout(16, 20, FIRST)


class TurnedNet(nn.Module):
    """Turns the image before its first layer."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.turn = turn
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(self.turn(x)).square().mean((2, 3)))
        return logits


def test_the_map_of_a_network_that_swaps_rows_and_columns_lies_over_the_image() -> None:
    classifier = classifier_for(seeded(TurnedNet, turn=lambda x: x.transpose(2, 3)), 24, 24)
    cam = cam_at(classifier, "conv")
    value, gradient = by_hand(classifier, "conv", cam.targets)
    expected = (value * gradient.mean((2, 3), keepdim=True)).sum(1)
    assert relative(cam.maps, expected.transpose(1, 2)) < 1e-6


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x.flip(-1),
        lambda x: x.rot90(1, (2, 3)),
        lambda x: torch.cat([x[..., 12:], x[..., :12]], -1),
    ],
)
def test_the_map_of_a_network_that_turns_the_image_is_refused(
    turn: Callable[[Tensor], Tensor],
) -> None:
    classifier = classifier_for(seeded(TurnedNet, turn=turn), 24, 24)
    with pytest.raises(UsageError, match=r"conv is \(4, 24, 24\)"):
        cam_at(classifier, "conv")


class CountedNet(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.images = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        logits: Tensor = self.inner(x)
        return logits


def test_only_networks_whose_graph_does_not_tell_are_measured() -> None:
    for net, size, needed in ((LastAxisNet, (16, 20), 2), (TokenNet, (24, 24), 2 + 10)):
        counted = CountedNet(seeded(net))
        classifier = classifier_for(counted, *size)
        counted.images = 0  # creating a classifier takes images as well
        cam_at(classifier, None)
        assert counted.images == needed


class SometimesTwice(TokenNet):
    """Runs its norm a second time unless a batch begins with a certain image."""

    once = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if not torch.equal(x[:1], self.once):
            self.norm(self.embed(x).flatten(2).transpose(1, 2))
        return logits


def test_an_output_that_only_some_images_have_is_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    net = seeded(SometimesTwice)
    classifier = classifier_for(net)
    inputs = as_inputs(classifier, images_for(classifier)[:1])
    net.once = RegionTest(inputs).images[5:6]
    monkeypatch.setattr(RegionTest, "parts", lambda test: torch.split(test.images, 5))
    recording = record(net, inputs, see_all=True)
    calls = [call for call in recording.calls if call.name == "norm"]
    found = Layouts(net, recording).find(calls)
    assert len(calls) == 2 and ("norm", 1) not in found


def test_listed_layers_and_activations_know_the_layout() -> None:
    classifier = classifier_for(seeded(TokenNet))
    image = images_for(classifier)
    found = {info.name: info for info in layers(classifier, image[0])}
    assert found["norm"].shape == (37, 16) and found["norm"].size == (PATCHES, PATCHES)
    assert found["norm"].has_extent and not found["head"].has_extent
    norm, head = activations(classifier, image, ["norm", "head"])
    assert norm.values.shape == (2, 16, PATCHES, PATCHES) and head.values.shape == (2, 5)


def test_the_layouts_that_a_shape_allows() -> None:
    assert candidates((1, 7, 7, 768), (224, 224)) == [
        MapLayout(7, 768, FIRST),
        MapLayout(7, 7, LAST),
    ]
    assert candidates((1, 8, 1, 1), (224, 224)) == []
    assert candidates((1, 197, 192), (224, 224)) == [
        MapLayout(14, 14, first=1),
        MapLayout(14, 14, first=0),
    ]
    assert candidates((1, 141, 8), (224, 160))[0] == MapLayout(14, 10, first=1)
    assert candidates((1, 3, 8), (224, 224)) == [] == candidates((1, 8), (224, 224))


@pytest.mark.parametrize(
    ("shape", "count", "is_first"),
    [
        ((9, 4, 6), 4, True),
        ((4, 9, 6), 4, False),
        ((4, 4, 6), 4, False),
        ((9, 3, 6), 4, False),
        ((9, 4), 4, False),
        ((9, 4, 6, 6), 4, False),
        ((9,), 4, False),
    ],
)
def test_tokens_come_first_only_in_three_axes_with_the_images_on_the_second(
    shape: tuple[int, ...], count: int, is_first: bool
) -> None:
    assert _is_sequence_first(shape, count) is is_first
