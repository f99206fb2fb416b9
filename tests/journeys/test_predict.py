"""Predictions for folders, patterns and lists of files."""

import io
import json
import shutil
from pathlib import Path

import pytest

from glasshouse.models.known_names import EXAMPLE_PHOTO, bundled_names
from tests.journeys.command import glasshouse_here


def test_all_readable_images_are_answered_and_the_others_named_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("photos/a.png", "photos/deep/b.png", "c[1].png"):
        shutil.copy(EXAMPLE_PHOTO, tmp_path / name)
    (tmp_path / "photos" / "words.png").write_text("not an image")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"c[1].png\nnowhere.png\n")))
    start = ["predict", bundled_names()[0], "--json"]
    code, output, errors = glasshouse_here([*start, "photos", "photos/*/*.png", "-"], capsys)
    assert code == 3
    good = ["photos/a.png", "photos/deep/b.png", "photos/deep/b.png", "c[1].png"]
    answers = json.loads(output)
    assert [each["image"] for each in answers] == good
    assert len({json.dumps(each["top"]) for each in answers}) == 1
    assert "words.png: not an image" in errors and "nowhere.png: the file does not" in errors
    assert glasshouse_here([*start, "c[1].png"], capsys)[0] == 0
    code, _, errors = glasshouse_here([*start, "*.jpg"], capsys)
    assert code == 3 and "no image file in *.jpg" in errors
