"""A form for the settings of a recipe, derived from their types, bounds and help."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from nicegui import ui
from nicegui.element import Element

from glasshouse.errors import RecipeError
from glasshouse.recipe import load_recipe
from glasshouse.serving.pages.parts import box, name_field, text
from glasshouse.settings import AugmentSettings, Recipe, Schedule, Settings

FIRST = ("train.epochs", "train.lr")
MORE = (
    "train.batch_size", "train.optimizer", "train.schedule",
    "train.weight_decay", "train.label_smoothing", "train.early_stopping", "train.keep",
    "train.keep_every", "train.seed", "data.image_size", "data.train_limit",
)  # fmt: skip
AUGMENT = tuple(f"augment.{name}" for name in AugmentSettings.model_fields)

_YES_NO = {False: "no", True: "yes"}

Kind = Literal["whole", "number", "choice", "flag", "text"]
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Setting:
    """One key of a recipe as a field of the form; optional: it may be left empty."""

    key: str
    kind: Kind
    choices: tuple[str, ...]
    optional: bool
    help: str

    @property
    def label(self) -> str:
        """The name of the field: "Learning rate" for train.lr."""
        words = self.key.rpartition(".")[2].replace("_", " ")
        return {"lr": "learning rate"}.get(words, words).capitalize()


def setting_of(key: str) -> Setting:
    """The field for a key such as train.epochs, derived from the settings."""
    section, name = key.split(".")
    model: type[Settings] = Recipe.model_fields[section].annotation  # type: ignore[assignment]
    field = model.model_fields[name]
    if key == "train.schedule":
        return Setting(key, "choice", tuple(_schedules()), False, field.description or "")
    kind, choices, optional = _kind(field.annotation)
    return Setting(key, kind, choices, optional, field.description or "")


def value_in(recipe: Recipe, key: str) -> Value:
    """The value of a key as its field shows it."""
    section, name = key.split(".")
    value: Any = getattr(getattr(recipe, section), name)
    if key == "train.schedule":
        return str(value.type)
    is_word = isinstance(value, bool) and setting_of(key).kind == "choice"
    return _YES_NO[value] if is_word else value


def overrides(recipe: Recipe, values: dict[str, Value]) -> list[str]:
    """The overrides for --set that give the recipe these values; only where they differ."""
    found = []
    for key, value in values.items():
        setting = setting_of(key)
        wanted = _typed(setting, value)
        if wanted is None or wanted == value_in(recipe, key):
            continue
        found.append(f"{key}={_toml(key, wanted, values)}")
    return found


def recipe_with_values(name_or_file: str, values: dict[str, Value], more: Sequence[str]) -> Recipe:
    """The recipe with the values of the form; raises RecipeError that names the invalid key."""
    recipe = load_recipe(name_or_file)
    return load_recipe(name_or_file, [*overrides(recipe, values), *more])


class FieldProblem:
    """The error message below a field, which is marked while there is one."""

    def __init__(self, field: Any) -> None:
        self._field = field
        self._words = text("", "p", "gh-bad gh-problem").props("role=alert")

    def show(self, words: str) -> None:
        """Add a message, and bring the field into view."""
        self._words.text = "\n".join(part for part in (self._words.text, words) if part)
        self._field.props("error no-error-icon")
        # By the message: an input with a label carries the id that the label names, not its own.
        ui.run_javascript(f"glasshouse.reveal('{self._words.html_id}')")

    def clear(self) -> None:
        """Remove the message."""
        self._words.text = ""
        self._field.props(remove="error")


class Form:
    """The fields of the form, by key."""

    def __init__(self, on_change: Callable[[], Any]) -> None:
        self.fields: dict[str, Any] = {}
        self._problems: dict[str, FieldProblem] = {}
        self._on_change = on_change

    def add(self, keys: Sequence[str]) -> Element:
        """Add fields for these keys to the page, in an element that can hold more."""
        with box("gh-fields") as fields:
            for key in keys:
                self._field(setting_of(key))
        return fields

    def show(self, recipe: Recipe) -> None:
        """Fill in the values of a recipe."""
        for key, field in self.fields.items():
            value = value_in(recipe, key)
            is_text = setting_of(key).kind == "text"
            field.value = str(value) if is_text and value is not None else value

    @property
    def values(self) -> dict[str, Value]:
        """The current values of the fields."""
        return {key: field.value for key, field in self.fields.items()}

    def require_filled(self, values: Mapping[str, Value]) -> None:
        """Raise RecipeError for fields that are empty but need a value, one line each."""
        kinds = {"whole": "a whole number", "number": "a number"}
        missing = [
            f"{key}: expected {kinds.get(setting_of(key).kind, 'a value')}, but the field is empty."
            for key, value in values.items()
            if value in (None, "") and not setting_of(key).optional
        ]
        if missing:
            raise RecipeError("\n".join(missing))

    def show_problem(self, key: str, words: str) -> str:
        """Show a message below the field of a key; the field's label."""
        self._problems[key].show(words)
        return setting_of(key).label

    def clear_problems(self) -> None:
        """Remove all messages."""
        for problem in self._problems.values():
            problem.clear()

    def _field(self, setting: Setting) -> None:
        with box("gh-field"):
            if setting.kind == "flag":
                field: Any = ui.switch(setting.label, on_change=self._on_change)
                field.classes("gh-switch")
            else:
                field = _input(setting, self._on_change)
                name_field(setting.label, field).props["title"] = setting.key
                field.props.update({"aria-label": setting.label})
                field.classes("gh-input").props("outlined dense")
            self._problems[setting.key] = FieldProblem(field)
            text(setting.help, "span", "gh-help")
        self.fields[setting.key] = field


def _input(setting: Setting, on_change: Callable[[], Any]) -> Any:
    if setting.kind == "choice":
        return ui.select(list(setting.choices), on_change=on_change).props("options-dense")
    if setting.kind == "text":
        return ui.input(on_change=on_change).props("debounce=300")
    step = 1 if setting.kind == "whole" else None
    field = ui.number(step=step, on_change=on_change).props("debounce=300")
    return field.props('placeholder="not set" clearable') if setting.optional else field


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    """The kind of field for a type annotation, its choices, and whether it may be empty."""
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", tuple(str(choice) for choice in get_args(annotation)), False
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(get_args(annotation))
        if bool in parts:  # yes, no or another way
            words = tuple(str(w) for part in parts for w in get_args(part))
            return "choice", (*_YES_NO.values(), *words), optional
        if len(parts) > 1:  # a number or a word
            return "text", (), optional
        return (*_kind(parts[0])[:2], optional)
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number"}
    return kinds.get(annotation, "text"), (), False


def _typed(setting: Setting, value: Value) -> Value:
    """A field's value in the setting's type; the recipe itself rejects what is invalid."""
    if value is None or value == "":
        return None
    if setting.kind == "whole" and isinstance(value, float) and value.is_integer():
        return int(value)
    if setting.kind == "text" and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _toml(key: str, value: Value, values: dict[str, Value]) -> str:
    if key == "train.schedule":
        # A step schedule needs its interval; three steps per run are common.
        epochs = values.get("train.epochs")
        every = max(1, int(epochs) // 3) if isinstance(epochs, int | float) else 3
        return f'{{type="{value}"{f", every={every}" if value == "step" else ""}}}'
    answers = {word: answer for answer, word in _YES_NO.items()}
    return json.dumps(answers.get(str(value), value) if setting_of(key).kind == "choice" else value)


def _schedules() -> list[str]:
    variants = get_args(get_args(Schedule)[0])
    names = [get_args(variant.model_fields["type"].annotation)[0] for variant in variants]
    return [str(name) for name in names if name != "per_epoch"]
