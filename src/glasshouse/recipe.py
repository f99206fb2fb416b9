"""Recipes: a complete experiment as a TOML file, with the keys of settings.py."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from glasshouse.errors import RecipeError, StorageError, did_you_mean
from glasshouse.setting_errors import explain_problems
from glasshouse.settings import Recipe

_NETS = {"preset", "layers", "pretrained", "code"}
_VIEWS = {"mirror", "shifts"}


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
