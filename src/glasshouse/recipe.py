"""Recipes: a complete experiment as a TOML file, with the keys of settings.py."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli_w
from pydantic import ValidationError

from glasshouse.errors import RecipeError, did_you_mean
from glasshouse.settings import Layer, Recipe, Schedule, Settings

_NETS = {"preset", "layers", "pretrained"}
# What Keras users write in a layer and no spelling suggestion would find.
_KERAS_NAMES = {"swish": "Did you mean 'silu'?"}
# What other libraries call a key, and no spelling suggestion would find.
_SYNONYMS = {
    "learning_rate": "train.lr",
    "lr0": "train.lr",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "wd": "train.weight_decay",
    "patience": "train.early_stopping",
    "random_state": "train.seed",
    "scheduler": "train.schedule.type",
    "size": "data.image_size",
    "img_size": "data.image_size",
    "imgsz": "data.image_size",
    "flip": "augment.horizontal_flip",
    "rotation": "augment.rotation_range",
    "backbone": "model.pretrained.name",
    "architecture": "model.preset",
}


def recipe_names() -> list[str]:
    """The named recipes that come with Glasshouse."""
    folder = resources.files("glasshouse") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name_or_file: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A named recipe or a TOML file, with ``key=value`` overrides such as ``train.epochs=3``.

    Raises RecipeError that names the key and the nearest known one.
    """
    text = recipe_text(str(name_or_file))
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name_or_file} is not valid TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    return parse_recipe(values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A Recipe from nested values; raises RecipeError that names each wrong key."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(problem), values) for problem in error.errors()]
        raise RecipeError("the recipe is not valid:\n  " + "\n  ".join(lines)) from error


def to_toml(recipe: Recipe) -> str:
    """The recipe including all defaults, as TOML that load_recipe can read."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def recipe_text(name: str) -> str:
    """The TOML of a named recipe or of a file, as it is written; raises RecipeError."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise RecipeError(f"the recipe file {path} does not exist")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from error
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
    if key.strip() == "augment" and text.strip() == "off":
        # The defaults of all augmentations are off; single ones can be turned on again after it.
        values["augment"] = {}
        return
    try:
        _put(values, key.strip().split("."), parse_value(text.strip()))
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
    for other in _NETS - {key} if key in _NETS else ():
        values.pop(other, None)


def parse_value(text: str) -> Any:
    """A TOML value; anything else is taken as a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: dict[str, Any], values: Mapping[str, Any]) -> str:
    # Pydantic adds the chosen variant of a union to the path; the keys in the file lack it.
    path = _user_path(problem["loc"], values)
    where = ".".join(str(part) for part in path)
    if problem["type"] == "extra_forbidden":
        *section, name = problem["loc"]
        return f"unknown key '{where}'. {_nearest_key(section, str(name))}"
    if problem["type"] in ("union_tag_invalid", "literal_error"):
        expected = problem["ctx"].get("expected_tags") or problem["ctx"].get("expected")
        options = [word.strip(" '") for word in str(expected).replace(" or ", ",").split(",")]
        tag = problem["ctx"].get("tag")
        received = tag if tag is not None else problem["input"]
        hint = _KERAS_NAMES.get(str(received)) or did_you_mean(str(received), options)
        return f"{where}: unknown value '{received}'. {hint}"
    received = problem["input"]
    shown = "" if isinstance(received, dict) else f" Received: {received!r}."
    # A validator of several sections names the keys in its message.
    prefix = f"{where}: " if where else ""
    return f"{prefix}{problem['msg'].removeprefix('Value error, ')}.{shown}"


def _user_path(loc: Sequence[int | str], values: Any) -> list[int | str]:
    path: list[int | str] = []
    for position, part in enumerate(loc):
        known = isinstance(values, dict) and part in values
        known = known or (isinstance(values, list) and isinstance(part, int) and part < len(values))
        if known:
            values = values[part]
            path.append(part)
        elif position == len(loc) - 1 and isinstance(values, dict) and part not in _tags():
            path.append(part)
    return path


def _nearest_key(section: Sequence[int | str], name: str) -> str:
    """A hint: the nearest key of the section, or the same key where it belongs."""
    near = did_you_mean(name, _known_keys(section))
    if any(isinstance(part, int) for part in section):
        return near  # The keys of a layer have nothing to do with those of other sections.
    places = _SYNONYMS | {
        key: f"{place}.{key}"
        for place, field in Recipe.model_fields.items()
        for key in getattr(_model_in(field.annotation), "model_fields", ())
    }
    if name not in places and near.startswith("Known") and not section:
        name = next(iter(difflib.get_close_matches(name, places, n=1)), name)
    return f"Did you mean '{places[name]}'?" if name in places else near


def _known_keys(section: Sequence[int | str]) -> list[str]:
    """The field names of a section; variants of unions are found by their tag."""
    model: Any = Recipe
    for part in section:
        if isinstance(part, int):
            continue
        model = _tags().get(str(part)) or _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[Settings] | None:
    """The settings class in an annotation, looking through Optional."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    if get_origin(annotation) is None:
        return None
    found = [_model_in(argument) for argument in get_args(annotation)]
    return found[0] if len(found) == 1 or (len(found) == 2 and found[1] is None) else None


def _tags() -> dict[str, type[Settings]]:
    """Every variant of a layer or a schedule by its ``type``."""
    variants = (*get_args(get_args(Layer)[0]), *get_args(get_args(Schedule)[0]))
    return {
        tag: variant
        for variant in variants
        for tag in get_args(variant.model_fields["type"].annotation)
    }
