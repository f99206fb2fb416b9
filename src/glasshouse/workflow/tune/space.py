"""A search space over recipe keys, and the recipe that a choice of values gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from glasshouse.errors import RecipeError
from glasshouse.models.width import first_filters, widened
from glasshouse.recipe import load_recipe
from glasshouse.settings import Recipe

Value = str | int | float | bool

# Two ways to vary the width, neither of them a recipe key: the factor by which filters and units of
# all layers but the last are multiplied, or the filters of the first convolution that result.
WIDTH, FILTERS = "model.width", "model.filters"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; is_log: sampled uniformly in the logarithm."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool


@dataclass(frozen=True)
class Categorical:
    """One of several values."""

    key: str
    values: tuple[Value, ...]


Dimension = Range | Categorical


def parse_search(text: str) -> Dimension:
    """``train.lr=1e-4..1e-1:log`` to a Range, ``train.batch_size=32,64`` to a Categorical.

    A range whose ends are whole numbers has whole numbers only. Raises RecipeError.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise RecipeError(
            f"--search {text}: expected key=low..high, key=low..high:log or key=value,value, for "
            "example train.lr=1e-4..1e-1:log"
        )
    if ".." in values:
        return _parse_range(text, key, values)
    chosen = tuple(_value(part.strip()) for part in values.split(","))
    if len(set(map(str, chosen))) < 2:
        raise RecipeError(f"--search {text}: expected two values or more, or a range low..high")
    return Categorical(key, chosen)


def recipe_of(name: str, overrides: Sequence[str], values: Mapping[str, Value]) -> Recipe:
    """The recipe with these values; raises RecipeError where one is invalid."""
    own = [f"{key}={_toml(value)}" for key, value in values.items() if key not in (WIDTH, FILTERS)]
    recipe = load_recipe(name, [*overrides, *own])
    factor = _width(recipe, values)
    if factor is None:
        return recipe
    return recipe.model_copy(update={"model": widened(recipe.model, factor)})


def _width(recipe: Recipe, values: Mapping[str, Value]) -> float | None:
    """The requested factor of the width, if any."""
    if FILTERS not in values:
        return float(values[WIDTH]) if WIDTH in values else None
    first = first_filters(recipe.model)
    if first is None:
        raise RecipeError(f"{FILTERS}: {recipe.name} has no convolution whose filters could vary")
    return float(values[FILTERS]) / first


def values_in(recipe: Recipe, space: Sequence[Dimension]) -> dict[str, Value] | None:
    """The recipe's own values, or None unless all of them lie in the space."""
    found: dict[str, Value] = {}
    for dimension in space:
        value = _own_value(recipe, dimension.key)
        if isinstance(dimension, Categorical):
            if value not in dimension.values:
                return None
        elif not isinstance(value, (int, float)) or not dimension.low <= value <= dimension.high:
            return None
        found[dimension.key] = value
    return found


def require_space(name: str, overrides: Sequence[str], space: Sequence[Dimension]) -> None:
    """Raise RecipeError for an empty space, a repeated key, or ends that the recipe refuses."""
    keys = [dimension.key for dimension in space]
    if not keys:
        raise RecipeError("tune needs a --search or more, for example train.lr=1e-4..1e-1:log")
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(f"--search names {', '.join(twice)} more than once")
    if {WIDTH, FILTERS} <= set(keys):
        raise RecipeError(f"--search: {WIDTH} and {FILTERS} both set the width; use one of them")
    recipes_at_ends(name, overrides, space)


def recipes_at_ends(
    name: str, overrides: Sequence[str], space: Sequence[Dimension]
) -> list[Recipe]:
    """The recipe with each value of a list, and with both ends of a range, one key at a time."""
    return [
        recipe_of(name, overrides, {dimension.key: value})
        for dimension in space
        for value in _ends(dimension)
    ]


def describe_space(space: Sequence[Dimension]) -> list[str]:
    """Each dimension as the text that parse_search reads."""
    return [_text(dimension) for dimension in space]


def _text(dimension: Dimension) -> str:
    if isinstance(dimension, Categorical):
        return f"{dimension.key}={','.join(map(str, dimension.values))}"
    low, high = _ends(dimension)
    return f"{dimension.key}={low}..{high}{':log' if dimension.is_log else ''}"


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    if isinstance(dimension, Categorical):
        return dimension.values
    if dimension.is_whole:
        return int(dimension.low), int(dimension.high)
    return dimension.low, dimension.high


def _parse_range(text: str, key: str, values: str) -> Range:
    ends, colon, scale = values.partition(":")
    low_text, _, high_text = ends.partition("..")
    low, high = _value(low_text.strip()), _value(high_text.strip())
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high))
    if not numbers or (colon and scale.strip() != "log"):
        raise RecipeError(f"--search {text}: expected low..high or low..high:log with two numbers")
    is_log = bool(colon)
    low, high = float(low), float(high)
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high or (is_log and low <= 0):
        raise RecipeError(
            f"--search {text}: expected the low end below the high end"
            + (", and above 0 for a log range" if is_log else "")
        )
    is_whole = not any(mark in low_text + high_text for mark in ".eE")
    return Range(key, low, high, is_log, is_whole and key != WIDTH)


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def _toml(value: Value) -> str:
    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


def _own_value(recipe: Recipe, key: str) -> Any:
    if key in (WIDTH, FILTERS):
        return 1.0 if key == WIDTH else first_filters(recipe.model)
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        if isinstance(value, list):
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
