import pytest
from torch import nn

from glasshouse.errors import RecipeError
from glasshouse.models.layers import WhiteningLayer, build
from glasshouse.models.presets import preset_names
from glasshouse.models.width import widened
from glasshouse.settings import ModelSettings


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
def test_width_keeps_the_number_of_classes_and_scales_every_other_layer(factor: float) -> None:
    for name in preset_names():
        own = ModelSettings(preset=name)
        before, after = (_weighted(build(each, 7, (3, 32, 32), seed=0)) for each in
                         (own, widened(own, factor)))  # fmt: skip
        assert len(before) == len(after) > 1
        assert after[-1].weight.shape[0] == 7
        # All but the whitening, whose kernels follow from the images, and the shortcuts of blocks.
        scaled = [
            (one.weight.shape[0], other.weight.shape[0])
            for one, other in zip(before[:-1], after[:-1], strict=True)
            if not isinstance(one, WhiteningLayer)
        ]
        assert all(other == max(1, round(one * factor)) for one, other in scaled), name


def test_no_layer_is_scaled_to_nothing() -> None:
    layers = [
        {"type": "conv", "filters": 3},
        {"type": "residual", "layers": [{"type": "conv", "filters": 3, "padding": "same"}]},
        {"type": "flatten"},
        {"type": "dense", "units": 4},
        {"type": "dense", "units": "classes"},
    ]
    model = widened(ModelSettings.model_validate({"layers": layers}), 0.01)
    found = [each.weight.shape[0] for each in _weighted(build(model, 7, (3, 8, 8), seed=0))]
    assert found == [1, 1, 1, 7]


def _weighted(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_a_width_of_one_changes_nothing() -> None:
    own = build(ModelSettings(preset="tutorial-wide"), 10, (3, 32, 32), seed=0)
    same = build(widened(ModelSettings(preset="tutorial-wide"), 1.0), 10, (3, 32, 32), seed=0)
    assert [p.shape for p in own.parameters()] == [p.shape for p in same.parameters()]


def test_layers_without_a_width_are_named() -> None:
    model = ModelSettings.model_validate({"layers": [{"type": "torch", "name": "Flatten"}]})
    with pytest.raises(RecipeError, match="layer of type torch cannot be scaled"):
        widened(model, 2.0)
