"""What is wrong with settings, in the words of a recipe: the key, the value, the nearest name."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from glasshouse.errors import did_you_mean

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
# What each limit or type of pydantic asks for; the braces are what it names in its context.
_EXPECTED = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "literal_error": "{expected}",
    "union_tag_invalid": "{expected_tags}",
    "union_tag_not_found": "the key {discriminator}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
}
Model = type[BaseModel]


def explain_problems(error: ValidationError, values: Mapping[str, Any], root: Model) -> list[str]:
    """One line per wrong key; values: what was validated as a `root`, a recipe or one section."""
    by_key: dict[tuple[int | str, ...], list[dict[str, Any]]] = {}
    for problem in error.errors(include_url=False):
        path = tuple(_user_path(problem["loc"], values, root))
        by_key.setdefault(path, []).append(dict(problem))
    return [
        line
        for path, problems in by_key.items()
        for line in _explain_all(problems, path, values, root)
    ]


def first_problem(error: ValidationError, whole: str) -> str:
    """What is wrong first with a document: the key and what it should be; whole: its own name."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or whole
    return f"{key}: {in_our_words(dict(problem))}"


def in_our_words(problem: Mapping[str, Any]) -> str:
    """What was expected instead of a value, for one of the `errors()` of a ValidationError."""
    kind, words = problem["type"], str(problem["msg"])
    if kind in _EXPECTED:
        named = problem.get("ctx", {}).items()
        limits = {name: f"{of:g}" if isinstance(of, float) else of for name, of in named}
        return f"expected {_EXPECTED[kind].format_map(limits)}"
    if kind == "missing":
        # Of a pair or a triple, places are missing and not keys.
        return "expected more values" if isinstance(problem["loc"][-1], int) else "it is missing"
    if kind == "extra_forbidden":
        return "unknown key"
    # Our own validators write whole messages; few others remain, such as those of an address.
    words = words.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub("^(Input|Value) should (be|have) ", "expected ", words)


def nearest_key(section: Sequence[int | str], name: str, root: Model) -> str:
    """A hint: the nearest key of the section, or the same key where it belongs."""
    near = did_you_mean(name, _known_keys(section, root))
    if any(isinstance(part, int) for part in section):
        return near  # The keys of a layer have nothing to do with those of other sections.
    places = _synonyms(root) | {
        key: f"{place}.{key}"
        for place, field in root.model_fields.items()
        for key in getattr(_model_in(field.annotation), "model_fields", ())
    }
    if name not in places and near.startswith("Known") and not section:
        name = next(iter(difflib.get_close_matches(name, places, n=1)), name)
    if name in places:
        return f"Did you mean '{places[name]}'?"
    if len(section) == 1 and not near.startswith("Known"):
        return near.replace("mean '", f"mean '{section[0]}.")  # as --set takes it
    owners = [] if section or not near.startswith("Known") else _owners(name, root)
    return f"It is a key of {owners[0].__name__}." if owners else near


def _explain_all(
    problems: Sequence[dict[str, Any]],
    path: Sequence[int | str],
    values: Mapping[str, Any],
    root: Model,
) -> Iterator[str]:
    """A value that may be of several kinds has a problem with each, and gets one line."""
    wanted = list(dict.fromkeys(in_our_words(problem) for problem in problems))
    if len(wanted) > 1 and all(words.startswith("expected ") for words in wanted):
        kinds = " or ".join(words.removeprefix("expected ") for words in wanted)
        received = _value_at(path, values)
        yield f"{'.'.join(map(str, path))}: expected {kinds}. Received: {received!r}."
        return
    for problem in problems:
        yield _explain(problem, values, root)


def _value_at(path: Sequence[int | str], values: Any) -> Any:
    for part in path:
        values = values[part]
    return values


def _explain(problem: dict[str, Any], values: Mapping[str, Any], root: Model) -> str:
    # Pydantic adds the chosen variant of a union to the path; the keys in the file lack it.
    path = _user_path(problem["loc"], values, root)
    where = ".".join(str(part) for part in path)
    if problem["type"] == "extra_forbidden":
        *section, name = problem["loc"]
        return f"unknown key '{where}'. {nearest_key(section, str(name), root)}"
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
    return f"{prefix}{in_our_words(problem)}.{shown}"


def _user_path(loc: Sequence[int | str], values: Any, root: Model) -> list[int | str]:
    path: list[int | str] = []
    for position, part in enumerate(loc):
        known = isinstance(values, Mapping) and part in values
        is_place = isinstance(values, list | tuple) and isinstance(part, int)
        known = known or (is_place and int(part) < len(values))
        if known:
            values = values[part]
            path.append(part)
        elif position == len(loc) - 1 and isinstance(values, Mapping) and part not in _tags(root):
            path.append(part)
    return path


def _synonyms(root: Model) -> dict[str, str]:
    """The synonyms whose key the root has, by their path from there."""
    if "train" in root.model_fields:
        return _SYNONYMS
    ends = {name: path.partition(".")[2] for name, path in _SYNONYMS.items()}
    return {name: end for name, end in ends.items() if end.partition(".")[0] in root.model_fields}


def _owners(name: str, root: Model) -> list[Model]:
    """Other settings that have a key of this name."""
    family: Any = root.__mro__[root.__mro__.index(BaseModel) - 1]
    return [kind for kind in family.__subclasses__() if name in kind.model_fields]


def _known_keys(section: Sequence[int | str], root: Model) -> list[str]:
    """The field names of a section; variants of unions are found by their tag."""
    model: Any = root
    for part in section:
        if isinstance(part, int):
            continue
        tagged = _tags(root).get(str(part))
        model = tagged or _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> Model | None:
    """The settings class in an annotation, looking through Optional; None if there are several."""
    found = list(_models_in(annotation))
    return found[0] if len(found) == 1 else None


def _models_in(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


@cache
def _tags(root: Model) -> dict[str, Model]:
    """Every variant of a layer or a schedule below the root by its ``type``."""
    tags: dict[str, Model] = {}
    seen: set[Model] = set()
    waiting = [root]
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            waiting.extend(_models_in(field.annotation))
            if name == "type":
                tags |= dict.fromkeys(get_args(field.annotation), model)
    return tags
