"""From the name that a user gives to the thing it names."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from glasshouse.errors import UsageError, did_you_mean
from glasshouse.models.layers import build
from glasshouse.models.presets import preset_names
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.settings import ModelSettings, Recipe
from glasshouse.workflow.measuring import load_run_classifier


def net_by_name(
    name: str, overrides: Sequence[str], *, size: int, class_count: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    """A run's net, or a fresh one of a preset or recipe, with its input shape ``(3, h, w)``."""
    if Path(name).is_dir():
        classifier = load_run_classifier(Path(name))
        wanted = classifier.preprocessing
        return classifier.net, (3, wanted.height, wanted.width)
    shape = (3, size, size)
    return build(_model_settings(name, overrides), class_count, shape, seed=0), shape


def _model_settings(name: str, overrides: Sequence[str]) -> ModelSettings:
    if name in recipe_names() or name.endswith(".toml"):
        return load_recipe(name, overrides).model
    if name in preset_names():
        return Recipe(model=ModelSettings(preset=name)).model
    hint = did_you_mean(name, [*preset_names(), *recipe_names()])
    raise UsageError(f"'{name}' is neither a run folder nor a preset nor a recipe. {hint}")
