"""Class names from a file of the user's own, in the order of a network's outputs.

Tools write such files in several ways. Where a file gives each name a number, the numbers are the
positions of the outputs; what could mean two things is refused, since no later step would notice.
"""

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glasshouse.data.class_names import normal_name
from glasshouse.errors import UsageError
from glasshouse.storage import text_encoding

# Under which JSON files of other tools have their class names.
_KEYS = ("id2label", "label_names", "class_names", "class_to_idx", "classes", "names")
_SEPARATORS = "\t,;"
_AFTER_NUMBER = re.compile(r"(\d+)(?:\s*([:=])\s*|\s+)(\S.*)")
_WHOLE = re.compile(r"\d+")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_ADVICE = "Write one name per line, in the order of the network's outputs"
_QUOTES = 'or, where these are the names themselves, put each of them in "double quotes"'


def read_class_names(path: Path) -> tuple[str, ...]:
    """The class names of a text, CSV or JSON file, in the order of a network's outputs.

    A name per line; or numbers from 0 and names, in either order, with or without a header, or as a
    JSON object or Python dict. Raises UsageError for other files, and where a number or a name is
    missing or there twice.
    """
    text = _text(path)
    value = _value(path, text)
    names = _of_lines(path, text) if value is None else _of_value(path, value)
    names = tuple(normal_name(name) for name in names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if len(names) < 2 or twice or "" in names:
        received = f"'{twice[0]}' twice" if twice else f"{len(names)}"
        raise UsageError(
            f"{path}: expected two class names or more, one per line and each once; received "
            f"{'an empty name' if '' in names else received}"
        )
    return names


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding=text_encoding(path))
    except OSError as error:
        raise UsageError(f"cannot read class names from {path}: {error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def _value(path: Path, text: str) -> Any:
    """What a file in JSON, or with a Python list or dict, holds; None for other text."""
    is_json = path.suffix.lower() in (".json", ".jsonl")
    if not is_json and text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if is_json:
            raise UsageError(f"{path} is no valid JSON ({error}). {_ADVICE}") from error
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return ast.literal_eval(text.strip())
    return None


def _of_value(path: Path, value: Any) -> Sequence[str]:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return value
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: expected a list of class names. {_ADVICE}")
    key = next((each for each in _KEYS if isinstance(value.get(each), list | dict)), None)
    if key is not None:
        return _of_value(path, value[key])
    pairs = [(str(key), entry) for key, entry in _without_wordnet(value).items()]
    if all(isinstance(entry, str) and _WHOLE.fullmatch(key) for key, entry in pairs):
        return _by_number(path, pairs)
    if all(type(entry) is int for _, entry in pairs):
        return _by_number(path, [(str(entry), key) for key, entry in pairs])
    shown = ", ".join(key for key, _ in pairs[:5])
    raise UsageError(
        f"{path}: expected class names by their number, or under one of the keys "
        f"{', '.join(_KEYS)}; its keys are {shown or 'none'}. {_ADVICE}"
    )


def _without_wordnet(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Keras' pairs of WordNet's number and name as names; two cranes keep the number."""
    pairs = [entry for entry in value.values() if isinstance(entry, list | tuple)]
    if len(pairs) < len(value) or any(list(map(type, pair)) != [str, str] for pair in pairs):
        return value
    counts = Counter(name for _, name in pairs)
    return {
        key: f"{name} ({number})" if counts[name] > 1 else name
        for key, (number, name) in value.items()
    }


def _of_lines(path: Path, text: str) -> Sequence[str]:
    # Not splitlines, which would also cut a name at a rare kind of space.
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if path.suffix.lower() in (".yaml", ".yml") or any(_is_yaml(line) for line in lines):
        raise UsageError(f"{path} is YAML, of which no class names are read. {_ADVICE}")
    if all(_QUOTED.fullmatch(line) for line in lines):
        return [line[1:-1].replace('""', '"') for line in lines]
    for separator in _SEPARATORS:
        found = _columns(path, lines, separator)
        if found is not None:
            return _by_number(path, found)
    after_numbers = [_AFTER_NUMBER.fullmatch(line) for line in lines]
    pairs = [(found[1], found[3]) for found in after_numbers if found]
    has_marks = all(found and found[2] for found in after_numbers)
    # A space alone may be part of a name, such as "7 up".
    if has_marks or {int(number) for number, _ in pairs} == set(range(len(lines))):
        return _by_number(path, pairs)
    return lines


def _is_yaml(line: str) -> bool:
    return bool(re.match(r"names:(\s|$)", line))


def _columns(path: Path, lines: list[str], separator: str) -> list[tuple[str, str]] | None:
    """Numbers and names of lines in columns; None where the lines are names and nothing else."""
    rows = [_fields(path, line, separator) for line in lines]
    # A name has commas of its own: only a column of numbers tells.
    for place in (0, -1):
        numbered = [len(row) > 1 and bool(_WHOLE.fullmatch(row[place])) for row in rows]
        if 2 * sum(numbered) < len(rows) or not any(numbered):
            continue
        has_header = not numbered[0] and len(rows[0]) == len(rows[1])
        rows, numbered = rows[has_header:], numbered[has_header:]
        if not all(numbered):
            raise _unclear(path, lines[numbered.index(False) + has_header], "has no number")
        for row, line in zip(rows, lines[has_header:], strict=True):
            if len(row) != 2:
                raise _unclear(path, line, f"has {len(row)} columns")
            if _WHOLE.fullmatch(row[-1 - place]):
                raise _unclear(path, line, "has two numbers")
        return [(row[place], row[-1 - place]) for row in rows]
    return None


def _fields(path: Path, line: str, separator: str) -> list[str]:
    # Each line by itself, since a quotation mark in a name would run into the next ones.
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UsageError(f"{path} has a line that is no class name ({error}). {_ADVICE}") from error
    return [field.strip() for field in row]


def _unclear(path: Path, line: str, what: str) -> UsageError:
    return UsageError(
        f"{path}: expected a number and a name on each line, as on most of them, but '{line}' "
        f"{what}. {_ADVICE}, {_QUOTES}"
    )


def _by_number(path: Path, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The names of pairs of number and name, in the order of the numbers, which count from 0."""
    names: dict[int, str] = {}
    for text, name in pairs:
        number = int(text)
        if number in names:
            raise UsageError(
                f"{path}: both '{names[number]}' and '{name}' have the number {number}. {_ADVICE}, "
                f"{_QUOTES}"
            )
        names[number] = name
    missing = next((each for each in range(len(names)) if each not in names), None)
    if missing is not None:
        raise UsageError(
            f"{path}: expected the numbers of the outputs, 0 to {len(names) - 1}, but there is no "
            f"{missing}: they go from {min(names)} to {max(names)}. Other numbers do not say which "
            f"output is which. {_ADVICE}, {_QUOTES}"
        )
    return [names[number] for number in range(len(names))]
