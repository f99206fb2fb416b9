from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from glasshouse.errors import UsageError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.layer_choice import (
    find_call,
    layers,
    layers_in_depth,
    shallow_and_deep_layers,
)
from glasshouse.explanation.graph.map_layout import Layouts
from glasshouse.explanation.graph.recording import is_bypassed, record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.pretrained import build_net
from tests.explanation.nets import classifier_of, module_net, pooled_net, skip_net, some_images


def zoo(name: str, side: int) -> Classifier:
    return Classifier(build_net(name, 5, {}), Preprocessing(side, side), tuple("abcde"))


def chosen(classifier: Classifier, side: int = 16) -> tuple[str | None, str]:
    page = explain_page(classifier, some_images(1, side=side), methods=["grad-cam"])
    (found,) = page.explanations
    return found.layer, " ".join([*found.notes, *found.warnings])


def test_every_layer_is_listed_with_its_shape() -> None:
    found = layers(classifier_of(module_net()), some_images(1)[0])
    assert [info.name for info in found] == [str(i) for i in range(9)]
    assert found[2].shape == (8, 12, 12) and found[2].has_extent
    assert found[8].shape == (5,) and not found[8].has_extent


def test_a_single_row_and_column_is_no_extent() -> None:
    found = {info.name: info for info in layers(classifier_of(pooled_net()), some_images(1)[0])}
    assert found["6"].shape == (7, 1, 1) and not found["6"].has_extent
    assert found["5"].has_extent
    row = nn.Sequential(nn.Conv2d(3, 4, (16, 3)), nn.Flatten(), nn.Linear(56, 5))
    assert layers(classifier_of(row), some_images(1)[0])[0].shape == (4, 1, 14)
    assert not layers(classifier_of(row), some_images(1)[0])[0].has_extent


def test_the_last_layer_before_pooling_is_chosen() -> None:
    layer, why = chosen(classifier_of(module_net()))
    assert layer == "3" and "8 channels of 12x12" in why
    assert chosen(classifier_of(pooled_net()))[0] == "5"


def test_a_layer_bypassed_by_a_skip_connection_is_not_chosen() -> None:
    # The ReLU comes last, but half of what the head gets has not passed it.
    layer, why = chosen(classifier_of(skip_net()))
    assert layer == "conv" and "4 channels of 16x16" in why


class BlockNet(nn.Module):
    """A residual block whose last layer is one of two ways to the head."""

    def __init__(self, *, is_bypassed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)
        self.is_bypassed = is_bypassed

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.branch(x) + (x if self.is_bypassed else 0)
        logits: Tensor = self.head(x.relu().mean((2, 3)))
        return logits


def test_the_branch_of_a_residual_block_is_chosen_only_without_its_skip_connection() -> None:
    assert chosen(classifier_of(BlockNet(is_bypassed=True)))[0] == "stem"
    assert chosen(classifier_of(BlockNet(is_bypassed=False)))[0] == "branch"


def test_whether_a_layer_is_bypassed_depends_on_the_layer() -> None:
    classifier = classifier_of(BlockNet(is_bypassed=True))
    recording = record(classifier.net, as_inputs(classifier, some_images(1)), see_all=True)
    stem, branch = (find_call(recording.calls, name).edge for name in ("stem", "branch"))
    assert stem is not None and branch is not None
    assert not is_bypassed(recording, stem)
    assert is_bypassed(recording, branch)


def test_a_layer_whose_map_is_too_small_is_not_chosen() -> None:
    layer, why = chosen(zoo("torchvision/resnet18", 64), 64)
    assert layer == "layer3" and "the later layer4 has only 2x2" in why


class TwiceNet(nn.Module):
    """One ReLU that runs three times, the last time without rows and columns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.second(self.relu(self.first(x))))
        logits: Tensor = self.head(self.relu(x.mean((2, 3))))
        return logits


def test_a_name_is_the_last_call_of_a_layer_and_a_number_any_of_them() -> None:
    classifier = classifier_of(TwiceNet())
    recording = record(classifier.net, as_inputs(classifier, some_images(1)), see_all=True)
    calls = [call for call in recording.calls if call.name == "relu"]
    assert [call.number for call in calls] == [0, 1, 2]
    assert find_call(recording.calls, "relu") is calls[2]
    assert [find_call(recording.calls, f"relu:{number}") for number in range(3)] == calls
    for wrong in ("relu:3", "relu:-1", "relu:x"):
        with pytest.raises(UsageError, match=rf"relu runs 3 times, so relu:0 to relu:2.*{wrong}"):
            find_call(recording.calls, wrong)
    (info,) = [info for info in layers(classifier, some_images()[0]) if info.name == "relu"]
    assert (info.calls, info.shape) == (3, (6,))


def test_a_call_that_is_not_the_last_of_its_layer_is_named_with_its_number() -> None:
    assert chosen(classifier_of(TwiceNet()))[0] == "relu:1"


class TinyMaps(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def test_a_map_with_few_cells_has_a_warning() -> None:
    layer, why = chosen(classifier_of(TinyMaps()))
    assert layer == "1" and "only 2x2 cells" in why


def test_the_bundled_model_is_explained_behind_its_last_convolution() -> None:
    layer, why = chosen(load_bundled("cifar10-small"), 32)
    assert layer == "relu7" and "cells" not in why


def test_the_first_activation_and_the_chosen_layer_are_the_shallow_and_the_deep_one() -> None:
    classifier, images = classifier_of(module_net()), some_images()
    photos = [Image.fromarray(each.transpose(1, 2, 0)).resize((40, 50)) for each in images]
    given: list[Any] = [images[0], images, photos[0], photos, np.asarray(photos[0])]
    for each in given:
        found = shallow_and_deep_layers(classifier, each)
        assert [info.name for info in found] == ["1", "3"]


class FlatNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits


def test_the_error_for_a_net_without_maps_names_alternatives() -> None:
    with pytest.raises(UsageError, match=r"no layer.*rows and columns.*use saliency"):
        chosen(classifier_of(FlatNet()))


def test_an_early_map_of_a_net_that_mixes_positions_has_a_warning() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 8), nn.Linear(8, 8), nn.Linear(8, 5)
    )
    assert "3 of 4 layers with weights come after 0" in chosen(classifier_of(net))[1]


class ComplexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.real = nn.Conv2d(3, 4, 3)
        self.waves = nn.Conv2d(4, 4, 3, dtype=torch.complex64)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        waves = self.waves(self.real(x).to(torch.complex64))
        logits: Tensor = self.head(waves.abs().mean((2, 3)))
        return logits


def test_complex_outputs_are_no_maps() -> None:
    classifier = classifier_of(ComplexNet())
    assert chosen(classifier)[0] == "real"
    with pytest.raises(UsageError, match="waves returned no tensor of real numbers"):
        explain_page(classifier, some_images(1), methods=["grad-cam"], layer="waves")


@pytest.mark.parametrize(
    ("activations", "names"),
    # 0 to 5 have rows and columns; with one activation alone, all of them count.
    [((1, 3, 5), "1 3 5"), ((1, 3), "1 3"), ((1,), "0 1 2 3 4 5"), ((), "0 1 2 3 4 5")],
)
def test_layers_in_depth_are_activations_where_there_are_two(
    activations: tuple[int, ...], names: str
) -> None:
    parts = [
        nn.ReLU() if place in activations else nn.Conv2d(4 if place else 3, 4, 3, padding=1)
        for place in range(6)
    ]
    net = nn.Sequential(*parts, nn.Flatten(), nn.LazyLinear(5))
    net(torch.zeros(1, 3, 16, 16))
    recording = record(net, torch.zeros(1, 3, 16, 16), see_all=True)
    layouts = Layouts(net, recording)
    found = layers_in_depth(recording, layouts)
    assert found == tuple(names.split())
    # The first, the last and those evenly between them.
    assert layers_in_depth(recording, layouts, 2) == (found[0], found[-1])
