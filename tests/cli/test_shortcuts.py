"""The command, its files, and what it says where there is nothing to test."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.evaluation.intervals import Interval
from glasshouse.explanation.shortcuts.find import Shortcuts
from glasshouse.explanation.shortcuts.verdict import shortcut_verdict
from tests.journeys.command import glasshouse_here
from tests.serving.runs import trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("shortcuts") / "run")


def test_the_words_and_the_files_say_the_same(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = glasshouse_here(["shortcuts", str(run), "--images", "40"], capsys)
    assert code == 0, errors
    found = json.loads((run / "shortcuts.json").read_text(encoding="utf-8"))
    assert output.startswith(found["verdict"])
    assert found["image_count"] == 40 and found["tests"]
    page = (run / "shortcuts.html").read_text(encoding="utf-8")
    assert "Does it use a shortcut?" in page
    code, document, _ = glasshouse_here(["shortcuts", str(run), "--images", "40", "--json"], capsys)
    assert code == 0 and json.loads(document) == found


@pytest.mark.parametrize(
    ("classes", "accuracy", "is_acquitted"),
    [("ab", 0.54, False), ("ab", 0.56, True), ("abcdefghij", 0.18, False),
     ("abcdefghij", 0.2, True)],
)  # fmt: skip
def test_who_guesses_is_not_acquitted(classes: str, accuracy: float, is_acquitted: bool) -> None:
    test: Any = SimpleNamespace(subject="all", excess=Interval(0.0, -0.03, 0.03), kind="place")
    found = Shortcuts(tuple(classes), 40, 40, accuracy, (test,), (), (), (), {}, {})
    assert shortcut_verdict(found).startswith("No shortcut was found") == is_acquitted


def test_too_few_images_are_no_acquittal() -> None:
    nothing = Shortcuts(("a", "b"), 4, 4, 0.75, (), (), (), (), {}, {})
    for images in (4, 1):
        words = shortcut_verdict(replace(nothing, image_count=images))
        assert words.startswith("Nothing could be tested")
        assert "No shortcut was found" not in words
