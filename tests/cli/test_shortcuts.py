"""The command, its files, and what it says where there is nothing to test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from glasshouse.evaluation.intervals import Interval
from glasshouse.explanation.shortcuts.find import Shortcuts
from glasshouse.explanation.shortcuts.verdict import limits_of, shortcut_verdict
from glasshouse.workflow.use import run_shortcuts
from tests.journeys.command import glasshouse_here
from tests.serving.runs import trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("shortcuts") / "run")


def test_the_words_and_the_files_say_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, errors = glasshouse_here(["shortcuts", str(run), "--images", "24"], capsys)
    assert code == 0, errors
    found = json.loads((run / "shortcuts.json").read_text(encoding="utf-8"))
    assert output.startswith(found["verdict"])
    assert found["image_count"] == 24 and found["tests"]
    page = (run / "shortcuts.html").read_text(encoding="utf-8")
    assert "Does it use a shortcut?" in page
    report = (run / "report.html").read_text(encoding="utf-8")
    assert 'href="shortcuts.html"' in report
    assert 'id="sets"' in report, "the report is written again with its prediction sets"
    monkeypatch.setattr(run_shortcuts, "refresh_report", Mock())  # once is enough
    code, document, _ = glasshouse_here(["shortcuts", str(run), "--images", "24", "--json"], capsys)
    assert code == 0 and json.loads(document) == found


def test_images_that_were_trained_on_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "other")
    file = tmp_path / "other" / "environment.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    facts["data"]["fingerprint"] = "0" * 64
    file.write_text(json.dumps(facts), encoding="utf-8")
    code, _, errors = glasshouse_here(["shortcuts", str(tmp_path / "other")], capsys)
    assert code == 3 and "no longer has the images that" in errors
    recipe = tmp_path / "other" / "recipe.toml"
    words = recipe.read_text(encoding="utf-8")
    for old, new in (("on_validation = false", "on_validation = true"), ('"best"', '"last"')):
        assert old in words
        words = words.replace(old, new)
    recipe.write_text(words, encoding="utf-8")
    code, _, errors = glasshouse_here(["shortcuts", str(tmp_path / "other")], capsys)
    assert code == 2 and "shortcuts needs held-out images" in errors


def test_two_classes_cannot_tell_compression_from_damage() -> None:
    test: Any = SimpleNamespace(subject="all", kind="compression", is_of_object=False)
    pair = Shortcuts(("a", "b"), 40, 40, 0.9, (test,), (), (), (), {}, {})
    words = "With two classes there is no other wrong class"
    assert words in " ".join(limits_of(pair))
    assert words not in " ".join(limits_of(replace(pair, class_names=("a", "b", "c"))))


@pytest.mark.parametrize(
    ("classes", "accuracy", "is_acquitted"),
    [("ab", 0.54, False), ("ab", 0.56, True), ("abcdefghij", 0.18, False),
     ("abcdefghij", 0.2, True)],
)  # fmt: skip
def test_who_guesses_is_not_acquitted(classes: str, accuracy: float, is_acquitted: bool) -> None:
    test: Any = SimpleNamespace(
        subject="all", excess=Interval(0.0, -0.03, 0.03), kind="place", is_of_object=False
    )
    found = Shortcuts(tuple(classes), 40, 40, accuracy, (test,), (), (), (), {}, {})
    assert shortcut_verdict(found).startswith("No shortcut was found") == is_acquitted


def test_too_few_images_are_no_acquittal() -> None:
    nothing = Shortcuts(("a", "b"), 4, 4, 0.75, (), (), (), (), {}, {})
    for images in (4, 1):
        words = shortcut_verdict(replace(nothing, image_count=images))
        assert words.startswith("Nothing could be tested")
        assert "No shortcut was found" not in words
