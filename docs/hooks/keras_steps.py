"""The steps of the page "Coming from Keras": their Keras calls, and the code that replaces them."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

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
    def short(self) -> str:
        """The command, or else the last statement of the code, shortened."""
        if self.commands:
            return self.commands[0]
        line = ast.unparse(ast.parse(self.python).body[-1]).splitlines()[0]
        return line if len(line) <= 72 else line[:70] + " …"


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
