"""Recipes: a complete experiment as a TOML file, with the keys of settings.py."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from glasshouse.augment_settings import AugmentSettings
from glasshouse.errors import RecipeError, StorageError, did_you_mean
from glasshouse.setting_errors import explain_problems
from glasshouse.settings import Recipe

_NETS = {"preset", "layers", "pretrained", "code"}
_VIEWS = {"mirror", "shifts"}
# What heads that are fitted to features take of [train]; the rest is about epochs and steps.
_OF_FEATURES = {"class_weights", "sampling", "precision", "device", "threads", "seed"}
# The keys that belong to some values of another one.
_ONLY_WITH = {
    "train.momentum": ("optimizer", {"sgd", "muon"}),
    "train.filter_lr_factor": ("optimizer", {"muon"}),
    "transfer.trainable": ("way", {"tune"}),
    "transfer.unfreeze": ("way", {"gradual"}),
    "transfer.rate_factor": ("way", {"gradual"}),
    "transfer.batch_statistics": ("way", {"tune", "gradual"}),
    "transfer.heads": ("way", {"features"}),
    "transfer.strengths": ("way", {"features"}),
    "transfer.flips": ("way", {"features"}),
}


def recipe_names() -> list[str]:
    """The named recipes that come with Glasshouse."""
    folder = resources.files("glasshouse") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name_or_file: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A named recipe or a TOML file, with ``key=value`` overrides such as ``train.epochs=3``.

    Raises RecipeError that names the key and the nearest known one.
    """
    if isinstance(overrides, str):
        raise RecipeError(f"overrides: expected a list, such as [{overrides!r}]; received a text")
    text = recipe_text(str(name_or_file))
    try:
        values = tomllib.loads(text.removeprefix("\ufeff"))  # some editors begin with a mark
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{name_or_file} is not valid TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    return parse_recipe(values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A Recipe from nested values; raises RecipeError that names each wrong key."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = explain_problems(error, values, Recipe)
        raise RecipeError("the recipe is not valid:\n  " + "\n  ".join(lines)) from error


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """The keys that overrides set."""
    return [override.partition("=")[0].strip() for override in overrides]


def require_effect(recipes: Sequence[Recipe], keys: Sequence[str]) -> None:
    """Raise RecipeError for a key that somebody set and that changes nothing in any of the recipes.

    A key of a recipe file may have none: it waits for others to be changed.
    """
    for key in keys:
        reasons = [_why_without_effect(recipe, key) for recipe in recipes]
        if reasons and all(reasons):
            raise RecipeError(f"{key} has no effect {reasons[0]}")


def load_with_effect(name_or_file: str | Path, overrides: Sequence[str], *keys: str) -> Recipe:
    """What `load_recipe` returns; raises RecipeError as `require_effect` for overrides and keys."""
    recipe = load_recipe(name_or_file, overrides)
    require_effect([recipe], [*keys, *overridden_keys(overrides)])
    return recipe


def _why_without_effect(recipe: Recipe, key: str) -> str:
    """What makes a key useless in a recipe; empty where it is not."""
    section, _, name = key.partition(".")
    if recipe.transfer.way == "features" and (
        (section == "train" and name.partition(".")[0] not in _OF_FEATURES)
        or (section == "augment" and recipe.augment != AugmentSettings())
    ):
        return (
            "on heads, which are fitted at once to features of the images as they are: leave it "
            "out, or fine-tune the network: train with --recipe transfer-full"
        )
    if key not in _ONLY_WITH:
        return ""
    other, values = _ONLY_WITH[key]
    value = getattr(getattr(recipe, section), other)
    if value in values:
        return ""
    expected = " or ".join(repr(each) for each in sorted(values))
    return f"where {section}.{other} is '{value}': expected {expected}"


def to_toml(recipe: Recipe) -> str:
    """The recipe including all defaults, as TOML that load_recipe can read."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def recipe_text(name: str) -> str:
    """The TOML of a named recipe or of a file, as it is written.

    Raises RecipeError for one that does not exist or is no text, and StorageError where the disk
    fails.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise RecipeError(f"the recipe file {path} does not exist")
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot read the recipe {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(
                f"the recipe {path} is not in UTF-8 (byte {error.start + 1}): save it as UTF-8"
            ) from error
    if name not in recipe_names():
        hint = did_you_mean(name, recipe_names())
        raise RecipeError(
            f"unknown recipe '{name}'. {hint} The name of a recipe file must end in .toml."
        )
    return (resources.files("glasshouse") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: expected key=value, for example train.epochs=3")
    value = parse_value(text.strip())
    if key.strip() == "augment" and not isinstance(value, dict):
        if value != "off":
            raise RecipeError(
                f"--set {override}: expected off, which turns all augmentation off, or one of its "
                "keys, for example augment.rotation_range=15"
            )
        # The defaults of all augmentations are off; single ones can be turned on again after it.
        values["augment"] = {}
        return
    try:
        _put(values, key.strip().split("."), value)
    except LookupError as error:
        raise RecipeError(f"--set {override}: {error.args[0]}") from error


def _put(values: Any, parts: Sequence[str], value: Any) -> None:
    """Set a value by its path: missing sections are created, items of a list must exist.

    Raises LookupError that says what is missing.
    """
    part, *rest = parts
    place: int | str = part
    if isinstance(values, list):
        if not part.isdecimal() or int(part) >= len(values):
            raise LookupError(f"expected a number from 0 to {len(values) - 1}, not '{part}'")
        place = int(part)
    elif rest and rest[0].isdecimal() and part not in values:
        raise LookupError(f"the recipe has no list {part} to change an item of: set the whole list")
    else:
        _remove_excluded(values, part, None if rest else value)
        values.setdefault(part, {})
    if not rest:
        values[place] = value
    elif isinstance(values[place], dict | list):
        _put(values[place], rest, value)
    else:
        raise LookupError(f"'{part}' is not a section")


def _remove_excluded(values: dict[str, Any], key: str, value: Any = None) -> None:
    """Remove what excludes the key: an override replaces the choice of the recipe."""
    if key == "type" and values.get("type") != value:
        values.clear()  # they are the keys of another type
    replaced = (_NETS - {key}) & values.keys() if key in _NETS else set()
    # The views are the recipe's choice for the network that it trains from scratch.
    views = _VIEWS if replaced and key == "pretrained" else set()
    for other in replaced | views:
        values.pop(other, None)


def parse_value(text: str) -> Any:
    """A TOML value; anything else is taken as a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
