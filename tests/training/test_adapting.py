"""What is said of an adapted network, and when it gets another size or another head."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import WrongInputSize
from glasshouse.models.backbone import ResizedInput, locate_head
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.stem import Stem
from glasshouse.settings import PretrainedSettings
from glasshouse.training import adapting
from glasshouse.training.adapting import adapt, own_size, with_head
from glasshouse.training.heads import HeadFit
from tests.conftest import make_images

SMALL = PretrainedSettings(name="resnet10t", weights="none", input_size=16)


def images_of(height: int, width: int) -> ImageSet:
    images = make_images(4)
    return replace(images, pixels=np.zeros((4, 3, height, width), np.uint8))


def known(height: int, width: int, crop: float = 1.0) -> Preprocessing:
    return Preprocessing(height, width, crop_fraction=crop)


@pytest.mark.parametrize(
    ("images", "size", "trained_at", "note"),
    [
        ((32, 32), 32, known(32, 32),
         "Images are read at 32x32, the input size of the network."),
        ((32, 32), 32, known(32, 32, 0.875), "Images are read at 32x32, the input size of the "
         "network, without the usual crop to 87.5 %."),
        ((32, 32), 32, known(64, 64, 0.875), "The network sees images at their own size of 32x32, "
         "and its weights were trained at 64x64."),
        ((32, 32), 48, known(64, 32), "Images of 32x32 are enlarged to 48x48 inside the network; "
         "its weights were trained at 32x64."),
        ((40, 48), 32, known(32, 32), "Images of 48x40 are shrunk to 32x32 inside the network; "
         "its weights were trained at 32x32."),
        ((31, 48), 32, known(32, 32), "Images of 48x31 are enlarged to 32x32 inside the network; "
         "its weights were trained at 32x32."),
    ],
)  # fmt: skip
def test_the_size_that_a_network_sees_is_told(
    images: tuple[int, int], size: int, trained_at: Preprocessing, note: str
) -> None:
    assert adapting._size_note(images_of(*images), size, trained_at) == note


@pytest.mark.parametrize(
    ("pooling", "factor", "said"),
    [(None, 2, "stride 1,"), ("maxpool", 4, "stride 1 and maxpool is removed,")],
)
def test_a_finer_stem_is_told(pooling: str | None, factor: int, said: str) -> None:
    assert adapting._stem_note(Stem("conv1", pooling)) == (
        f"The stem is finer than usual: conv1 has {said} so that feature maps of small images are "
        f"{factor} times as wide and high; the weights are unchanged."
    )


def adapted(splits: Splits, **changes: Any) -> Classifier:
    settings = SMALL.model_copy(update=changes)
    return adapt(settings, splits.train, resize="letterbox").classifier


def test_images_of_the_size_of_the_network_are_not_resized_in_it(tiny_splits: Splits) -> None:
    same, other = adapted(tiny_splits), adapted(tiny_splits, input_size=24)
    assert not isinstance(same.net, ResizedInput) and isinstance(other.net, ResizedInput)
    assert "input_size" not in (same.architecture or {})
    assert (other.architecture or {})["input_size"] == 24
    for each in (same, other):
        assert (each.preprocessing.height, each.preprocessing.width) == (16, 16)
        assert each.preprocessing.resize == "letterbox"
        assert not each.net.training and each.thresholds is None
    # Unset, a fine stem takes the images as they are, and any other the size of its weights.
    fine = adapted(tiny_splits, input_size=None, stem="fine")
    assert not isinstance(fine.net, ResizedInput) and (fine.architecture or {})["stem"] == "fine"
    usual = adapted(tiny_splits, input_size=None)
    assert (usual.architecture or {})["input_size"] == own_size(SMALL) == 176
    assert "stem" not in (usual.architecture or {})


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, ["Linear"]),
        ({"hidden": 8}, ["Linear", "ReLU", "Linear"]),
        ({"dropout": 0.5}, ["Dropout", "Linear"]),
        ({"hidden": 8, "dropout": 0.5}, ["Linear", "ReLU", "Dropout", "Linear"]),
    ],
)
def test_a_head_is_replaced_where_another_is_asked_for(
    tiny_splits: Splits, changes: dict[str, Any], kinds: list[str]
) -> None:
    classifier = adapted(tiny_splits, **changes)
    head = classifier.net.get_submodule(locate_head(classifier.net).at)
    layers = [head] if isinstance(head, nn.Linear) else list(head.children())
    assert [type(layer).__name__ for layer in layers] == kinds
    assert isinstance(layers[-1], nn.Linear) and layers[-1].out_features == 4
    assert ("head" in (classifier.architecture or {})) == bool(changes)


@pytest.mark.parametrize("hidden", [None, 8])
def test_a_fitted_head_takes_the_place_of_the_networks_own(
    tiny_splits: Splits, hidden: int | None
) -> None:
    classifier = replace(adapted(tiny_splits), conformity=None)
    width = 512
    parts = [nn.Linear(width, 4)]
    if hidden:
        parts = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 4)]  # type: ignore[list-item]
    fit = HeadFit("mlp" if hidden else "logistic", nn.Sequential(*parts), None, 1, 0, 0)
    before = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    found = with_head(classifier, fit)
    features = torch.randn(3, width)
    head = found.net.get_submodule(locate_head(found.net).at)
    torch.testing.assert_close(head(features), fit.layers(features))
    assert ("head" in (found.architecture or {})) == bool(hidden)
    if hidden:
        assert (found.architecture or {})["head"]["hidden"] == hidden
    assert not found.net.training
    for name, value in classifier.net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_that_cannot_take_such_images_says_why() -> None:
    class Picky(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise AssertionError(self.words)

        words = "only multiples of 14\nand a second line"

    for words, reason in ((Picky.words, "only multiples of 14"), ("", "AssertionError")):
        Picky.words = words
        with pytest.raises(WrongInputSize) as refused:
            adapting._require_size(Picky(), SMALL, images_of(30, 30), 30)
        assert str(refused.value) == (
            f"resnet10t cannot take images of 30x30 ({reason}). Unset model.pretrained.stem and "
            "set model.pretrained.input_size = 176, its own input size"
        )
