"""The steps of the page "Coming from Keras": their Keras calls, and the code that replaces them.

The page shows them, a test runs them on few images, and ``docs/step_times.py`` measures them.
"""

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from glasshouse.cli.main import app

PAGE = Path(__file__).parents[1] / "keras.md"
TIMES = Path(__file__).parents[1] / "assets" / "keras-seconds.json"


@dataclass(frozen=True)
class KerasStep:
    """One step of the tutorial: python is one block of code, or empty; commands are lines."""

    number: int
    title: str
    keras: str
    python: str
    commands: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What the table shows: the first command, or "python"."""
        return self.commands[0] if self.commands else "python"

    @property
    def short(self) -> str:
        """The command, or else the last statement of the code, shortened."""
        if self.commands:
            return self.commands[0]
        last = ast.parse(self.python).body[-1]
        line = " ".join((ast.get_source_segment(self.python, last) or "").split())
        return line if len(line) <= 60 else re.sub(r"(?<=\w)\(.*", "(...)", line)


def read_steps(text: str) -> list[KerasStep]:
    """The steps in the order of the page; a heading, a line for Keras, then blocks of code."""
    _, *pieces = re.split(r"^### (?=\d+\. )", text, flags=re.MULTILINE)
    return [_step(re.split(r"^## ", piece, flags=re.MULTILINE)[0]) for piece in pieces]


def _step(piece: str) -> KerasStep:
    number, title = piece.partition("\n")[0].split(". ", 1)
    keras = re.search(r"^Keras: (.*?)\n\n", piece, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", piece, re.MULTILINE | re.DOTALL)
    lines = "".join(code for language, code in blocks if not language).replace("\\\n", " ")
    return KerasStep(
        int(number),
        title,
        " ".join(keras.group(1).split()) if keras else "",
        "".join(code for language, code in blocks if language == "python"),
        tuple(line for line in lines.splitlines() if line),
    )


def run_steps(
    steps: list[KerasStep], *, epochs: int, images: int, chosen: Callable[[str], bool]
) -> Iterator[tuple[KerasStep, str, dict[str, Any]]]:
    """Run every block and command of the page in this process, in the current folder.

    Trainings are shortened to a number of epochs and of training images. Yields the step, after its
    code with "python" and after each command with the command, and the names that the code defined.
    chosen: which of them to run.
    """
    names: dict[str, Any] = {"__name__": "keras_page"}
    for step in steps:
        if step.python and chosen("python"):
            exec(compile(_fewer(step.python, epochs, images), step.title, "exec"), names)
            yield step, "python", names
        for line in filter(chosen, step.commands):
            _run(line, epochs, images)
            yield step, line, names


def _fewer(code: str, epochs: int, images: int) -> str:
    code = code.replace("epochs=10", f"epochs={epochs}")
    code = re.sub(r'(load_recipe\("[\w-]+")\)', rf'\1, ["train.epochs={epochs}"])', code)
    limit = f"gh.DataSettings(train_limit={images})"
    return re.sub(r'(load_splits\("[\w-]+")\)', rf"\1, {limit})", code)


def _run(line: str, epochs: int, images: int) -> None:
    _, *words = shlex.split(line)
    if words[0] in ("train", "lr-find"):
        words += ["--set", f"data.train_limit={images}"]
    if words[0] == "train":
        words += ["--epochs", str(epochs)]
    # Without its standalone mode, a command raises its error instead of exiting with a code.
    typer.main.get_command(app).main(words, "glasshouse", standalone_mode=False)
