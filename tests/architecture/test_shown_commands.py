"""The commands that README and documentation show exist, with every option they use."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from glasshouse.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUP: Any = typer.main.get_command(app)
SHOWN = re.compile(r"^(?:\$ )?glasshouse +([^\n|]+)$", re.MULTILINE)
# What starts the command on other machines, or in a cell of a notebook.
LAUNCHED = re.compile(
    r"^(?:!|torchrun [^\n]*-m +|kubectl exec [^\n]*-- +)glasshouse +([^\n|]+)$", re.MULTILINE
)


def shown_commands(text: str, pattern: re.Pattern[str] = SHOWN) -> list[str]:
    """What follows `glasshouse` in blocks of code, continued lines joined, comments left out."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ")
    return [re.split(r"\s# ", found)[0].strip() for found in pattern.findall(lines)]


def options_of(name: str) -> set[str]:
    parameters = GROUP.commands[name].params
    return {option for each in parameters for option in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_exists_with_its_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in shown_commands(text) + shown_commands(text, LAUNCHED):
        name, *words = shlex.split(line)
        assert name.startswith("--") or name in GROUP.commands, line
        given = {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)}
        assert not given or given <= options_of(name) | {"--help"}, line


def test_the_readme_shows_commands() -> None:
    assert len(shown_commands((ROOT / "README.md").read_text(encoding="utf-8"))) > 10


def test_commands_that_something_else_launches_are_found() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    found = {name: shown_commands(text, LAUNCHED) for name, text in pages.items()}
    assert [line.split()[0] for line in found["clusters.md"]] == ["tune", "train"]
    assert [line.split()[0] for line in found["many-processes.md"]] == ["train"]
