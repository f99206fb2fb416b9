"""What options stand for, and which of two wins."""

from pathlib import Path

import pytest

from glasshouse.cli.options import backbone_overrides, overrides_of, with_shorthands
from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe


def test_an_override_wins_over_the_backbone_option(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    given = [
        "model.pretrained.name=resnet10t",
        "model.pretrained.mean=0.25",
        "model.pretrained.weights=none",
    ]
    overrides = overrides_of(given, "resnet18:mean=0.5,input_size=32", weights)
    found = load_recipe("transfer-features", overrides).model.pretrained
    assert found is not None
    assert (found.name, found.mean, found.weights) == ("resnet10t", 0.25, "none")
    # What was not overridden stays.
    assert found.input_size == 32


def test_the_backbone_option_wins_over_the_recipe(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    backbone = "mobilenetv2_100:pad_type=same,std=0.5"
    found = load_recipe("transfer-features", overrides_of(None, backbone, weights)).model.pretrained
    assert found is not None
    assert (found.name, found.arguments) == ("mobilenetv2_100", {"pad_type": "same"})
    assert (found.std, found.weights) == (0.5, str(weights))
    assert backbone_overrides(None, None) == []
    # The recipe's arguments are those of its own network.
    own = load_recipe("tutorial-resnet50").model.pretrained
    assert own is not None and own.arguments
    other = load_recipe("tutorial-resnet50", overrides_of(None, "resnet10t")).model.pretrained
    assert other is not None and other.arguments == {}


def test_an_option_and_an_override_may_agree_but_not_contradict() -> None:
    assert with_shorthands(["train.epochs=3"], epochs=3) == ["train.epochs=3", "train.epochs=3"]
    with pytest.raises(UsageError, match=r"--lr 0\.1 and --set train\.lr=auto give train\.lr"):
        with_shorthands(["train.lr=auto"], lr="0.1")
