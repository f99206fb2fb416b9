"""What messages advise exists: commands, their options, keys of recipes, extras."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from glasshouse.cli.main import app
from glasshouse.settings import Recipe

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/glasshouse").rglob("*.py"))
COMMANDS = {
    name: {option for parameter in command.params for option in parameter.opts}
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}


@functools.cache
def texts(path: Path) -> tuple[str, ...]:
    """Every text in the code, docstrings included, with what is filled in left out."""
    return tuple(_texts(ast.parse(path.read_text(encoding="utf-8"))))


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield "".join(map(str, pieces))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_and_options_that_texts_name_exist() -> None:
    unknown = []
    for path in SOURCES:
        for text in texts(path):
            for command in re.findall(r"`glasshouse ([^`]*)`", text):
                name, *words = command.split()
                if name.startswith("-"):
                    continue
                options = {word.partition("=")[0] for word in words if word.startswith("--")}
                if name not in COMMANDS or not options <= COMMANDS[name] | {"--help"}:
                    unknown.append((path.name, command))
    assert unknown == []


def test_keys_of_recipes_that_texts_name_exist() -> None:
    sections = Recipe().model_dump()
    unknown = []
    for path in SOURCES:
        for text in texts(path):
            for section, key in re.findall(r"--set ([a-z]+)\.([a-z_]+)", text):
                if key not in sections.get(section, ()):
                    unknown.append((path.name, f"{section}.{key}"))
    assert unknown == []


@pytest.mark.parametrize("pattern", [r"glasshouse\[([a-z-]+)\]"])
def test_extras_that_texts_name_exist(pattern: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {name for path in SOURCES for text in texts(path) for name in re.findall(pattern, text)}
    assert named, "no text names an extra, so the pattern must be wrong"
    assert named <= project["optional-dependencies"].keys()
