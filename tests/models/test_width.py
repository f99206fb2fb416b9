import pytest

from glasshouse.errors import RecipeError
from glasshouse.models.layers import build
from glasshouse.models.presets import preset_names
from glasshouse.models.width import widened
from glasshouse.settings import ModelSettings


def test_width_keeps_the_number_of_classes_and_builds_for_every_preset() -> None:
    for name in preset_names():
        for factor in (0.3, 1.0, 1.7):
            model = widened(ModelSettings(preset=name), factor)
            build(model, 7, (3, 32, 32), seed=0)


def test_a_width_of_one_changes_nothing() -> None:
    own = build(ModelSettings(preset="tutorial-wide"), 10, (3, 32, 32), seed=0)
    same = build(widened(ModelSettings(preset="tutorial-wide"), 1.0), 10, (3, 32, 32), seed=0)
    assert [p.shape for p in own.parameters()] == [p.shape for p in same.parameters()]


def test_layers_without_a_width_are_named() -> None:
    model = ModelSettings.model_validate({"layers": [{"type": "torch", "name": "Flatten"}]})
    with pytest.raises(RecipeError, match="layer of type torch cannot be scaled"):
        widened(model, 2.0)
