"""Functions fit a screen, files a sitting."""

import ast
import functools
import statistics
from pathlib import Path

import pytest

import glasshouse

ROOT = Path(glasshouse.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {"utils", "helpers", "common", "misc"}


@functools.cache
def function_lengths(path: Path) -> list[tuple[int, str]]:
    """Lines of each function without its docstring."""
    lengths = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
            lengths.append(((node.end_lineno or 0) - node.lineno + 1 - docstring, node.name))
    return lengths


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    longest = max(function_lengths(path), default=(0, ""))
    assert longest[0] <= 60, longest
    assert path.stem not in FORBIDDEN


def test_most_functions_are_short() -> None:
    lengths = [length for path in FILES for length, _ in function_lengths(path)]
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=20)[-1] <= 35
