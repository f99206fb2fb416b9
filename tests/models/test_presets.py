import pytest
import torch

from glasshouse.errors import ModelError, RecipeError
from glasshouse.models.layers import build
from glasshouse.models.presets import preset_description, preset_layers, preset_names
from glasshouse.models.summary import summarize
from glasshouse.net_settings import ActivationLayer
from glasshouse.settings import Conv, ModelSettings, PretrainedSettings


def _filters(name: str) -> list[int]:
    return [layer.filters for layer in preset_layers(name) if isinstance(layer, Conv)]


def test_the_presets_are_those_that_are_documented() -> None:
    assert preset_names() == [
        "fast",
        "fast-narrow",
        "fine",
        "small-cnn",
        "small-residual",
        "tiny",
        "tutorial-basic",
        "tutorial-wide",
        "tutorial-wide-bn",
    ]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_it_is_for(name: str) -> None:
    assert preset_description(name).endswith(".")


def test_the_tutorial_nets_have_the_filters_of_the_tutorial() -> None:
    for name in ("small-cnn", "tutorial-basic"):
        assert _filters(name) == [6, 16, 16, 32]
    for name in ("tutorial-wide", "tutorial-wide-bn"):
        assert _filters(name) == [32, 32, 64, 128]


def test_the_narrow_net_has_half_the_filters_and_every_other_layer_of_the_fast_one() -> None:
    assert _filters("fast-narrow") == [filters // 2 for filters in _filters("fast")]
    wide, narrow = (
        [layer for layer in preset_layers(name) if not isinstance(layer, Conv)]
        for name in ("fast", "fast-narrow")
    )
    smooth, gated = ActivationLayer(activation="gelu"), ActivationLayer(activation="relu")
    assert smooth in wide
    assert [gated if layer == smooth else layer for layer in wide] == narrow


@pytest.mark.parametrize("name", ["fine", "tiny"])
def test_the_nets_of_the_bundled_models_have_maps_of_seven_cells(name: str) -> None:
    net = build(ModelSettings(preset=name), 10, (3, 32, 32), seed=0)
    shapes = [row.output_shape for row in summarize(net, (3, 32, 32)).rows if row.kind == "ReLU"]
    assert shapes[-1] is not None and shapes[-1][1:] == (7, 7)


@pytest.mark.parametrize(
    ("name", "count"),
    [("small-cnn", 271_570), ("tutorial-basic", 603_474), ("tutorial-wide", 2_467_434)],
)
def test_the_tutorial_nets_have_as_many_parameters_as_in_keras(name: str, count: int) -> None:
    net = build(ModelSettings(preset=name), 10, (3, 32, 32), seed=0)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("size", [8, 32, 33, 64])
def test_the_residual_net_takes_images_of_any_size(size: int) -> None:
    net = build(ModelSettings(preset="small-residual"), 7, (3, size, size), seed=0)
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'tutorial-basic'"):
        preset_layers("tutorial-basik")


def test_a_pretrained_network_has_no_list_of_layers() -> None:
    settings = ModelSettings(pretrained=PretrainedSettings(name="resnet18"))
    with pytest.raises(ModelError, match=r"pretrained resnet18, .*glasshouse\.adapt builds it"):
        build(settings, 10, (3, 32, 32), seed=0)
