"""Fields are derived from the settings, and their values become overrides of the recipe."""

import pytest

from glasshouse.errors import RecipeError
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.serving.pages.settings_form import (
    AUGMENT,
    FIRST,
    MORE,
    Value,
    overrides,
    recipe_with_values,
    setting_of,
    value_in,
)


@pytest.mark.parametrize("key", [*FIRST, *MORE, *AUGMENT])
def test_every_field_has_help_in_plain_words(key: str) -> None:
    assert len(setting_of(key).help) > 6


@pytest.mark.parametrize(
    ("key", "kind", "optional"),
    [
        ("train.epochs", "whole", False),
        ("train.lr", "text", False),
        ("train.weight_decay", "number", False),
        ("train.optimizer", "choice", False),
        ("train.early_stopping", "whole", True),
        ("augment.horizontal_flip", "choice", False),
        ("augment.zoom_range", "number", False),
    ],
)
def test_the_kind_of_a_field_is_that_of_the_setting(key: str, kind: str, optional: bool) -> None:
    assert (setting_of(key).kind, setting_of(key).optional) == (kind, optional)


@pytest.mark.parametrize("name", recipe_names())
def test_an_untouched_form_changes_nothing(name: str) -> None:
    recipe = load_recipe(name)
    values = {key: value_in(recipe, key) for key in (*FIRST, *MORE, *AUGMENT)}
    assert overrides(recipe, values) == []
    as_fields = {k: str(v) if setting_of(k).kind == "text" else v for k, v in values.items()}
    assert overrides(recipe, as_fields) == []


def test_changed_fields_reach_the_recipe() -> None:
    values: dict[str, Value] = {
        "train.epochs": 7.0, "train.lr": "auto", "train.schedule": "step",
        "augment.horizontal_flip": "no", "train.early_stopping": 3, "data.image_size": None,
    }  # fmt: skip
    recipe = recipe_with_values("small-residual", values, ["train.ema_decay=0.9"])
    assert (recipe.train.epochs, recipe.train.lr) == (7, "auto")
    assert recipe.train.schedule.type == "step"
    assert not recipe.augment.horizontal_flip
    assert (recipe.train.early_stopping, recipe.train.ema_decay) == (3, 0.9)


@pytest.mark.parametrize(
    ("key", "value"),
    [("train.epochs", 0), ("train.epochs", 2.5), ("train.lr", "fast"), ("augment.zoom_range", 3.0)],
)
def test_an_error_names_the_invalid_value(key: str, value: float | str) -> None:
    with pytest.raises(RecipeError, match=key.rpartition(".")[2]):
        recipe_with_values("small-residual", {key: value}, [])


@pytest.mark.parametrize(("word", "value"), [("no", False), ("alternating", "alternating")])
def test_a_boolean_with_further_options_is_a_choice(word: str, value: bool | str) -> None:
    assert setting_of("augment.horizontal_flip").choices == ("no", "yes", "alternating")
    recipe = recipe_with_values("small-residual", {"augment.horizontal_flip": word}, [])
    assert recipe.augment.horizontal_flip == value
    assert value_in(recipe, "augment.horizontal_flip") == word
