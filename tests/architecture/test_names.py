"""A file, a class and a public function each have a name that means one thing in the package.

Commands and pages of the workbench are left out: they may be named after the verb they expose.
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import glasshouse

ROOT = Path(glasshouse.__file__).parent
SURFACES = (ROOT / "cli", ROOT / "serving" / "pages")
FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not path.stem.startswith("__") and not any(path.is_relative_to(each) for each in SURFACES)
)


def file_names(path: Path) -> Iterator[str]:
    yield path.stem


def class_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def function_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name[0] != "_":
                yield name


@pytest.mark.parametrize("names_in", [file_names, class_names, function_names])
def test_a_name_has_one_meaning(names_in: Callable[[Path], Iterator[str]]) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for name in names_in(path):
            places[name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
