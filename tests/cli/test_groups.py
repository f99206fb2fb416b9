"""A planted group is found by the command, which writes what it says."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.image_traits import TraitDifference, image_traits
from glasshouse.data.images import ImageSet
from glasshouse.evaluation.failing_groups import FailingGroup
from glasshouse.evaluation.intervals import wilson
from glasshouse.report.group_page import ShownGroup, described_groups, group_verdict
from glasshouse.workflow.use import run_groups
from tests.journeys.command import glasshouse_here
from tests.run_files import without_reports


def planted_photos(folder: Path) -> Path:
    """Photos of two colours, of which some dark ones of the validation split are mislabelled."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 60), ("test", 10)):
        for label, name in enumerate(("red", "green")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                is_planted = split == "val" and label == 0 and number < 12
                values = random.integers(0, 60, (8, 8, 3)) // (2 if is_planted else 1)
                values[..., 1 if is_planted else label] += 40 if is_planted else 150
                path = folder / split / name / f"{number:03d}.png"
                Image.fromarray(values.astype(np.uint8)).save(path)
    return folder


def test_a_planted_group_is_named_by_the_command_its_page_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = planted_photos(tmp_path / "photos"), tmp_path / "run"
    arguments = ["--recipe", "small-cnn", "--epochs", "8", "--batch-size", "16"]
    arguments += ["--image-size", "8", "--out", str(run)]
    with without_reports():
        assert glasshouse_here(["train", str(photos), *arguments], capsys)[0] == 0
    code, output, errors = glasshouse_here(["groups", str(run)], capsys)
    assert code == 0, errors
    found = json.loads((run / "groups.json").read_text(encoding="utf-8"))
    assert output.startswith(found["verdict"]) and found["images"] == 120
    (group,) = found["groups"]
    planted = {f"val/red/{number:03d}.png" for number in range(12)}
    assert group["class"] == "red" and planted <= set(group["images"])
    assert "answered green" in group["words"] and "darker" in group["words"]
    assert "resemble green more than red" in group["words"]
    page = (run / "groups.html").read_text(encoding="utf-8")
    assert "val/red/003.png" in page and group["words"].replace(" %", "\u00a0%") in page
    report = (run / "report.html").read_text(encoding="utf-8")
    assert 'href="groups.html"' in report and found["verdict"].replace(" %", "\u00a0%") in report
    monkeypatch.setattr(run_groups, "refresh_report", Mock())  # once is enough
    code, document, _ = glasshouse_here(["groups", str(run), "--json"], capsys)
    assert code == 0 and json.loads(document) == found


def test_without_a_group_the_verdict_says_among_how_many_images() -> None:
    assert group_verdict([], 1500) == (
        "No group of similar images was found that is misclassified more often than the rest of "
        "its class, among 1,500 validation images."
    )


def test_the_words_of_several_groups_name_the_first() -> None:
    pixels = np.full((20, 3, 4, 4), 90, dtype=np.uint8)
    labels = np.arange(20) % 2
    images = ImageSet(pixels, labels, np.arange(20).astype(str), ("cat", "dog"))
    group = FailingGroup(
        label=0, rows=np.arange(0, 10, 2), accuracy=wilson(1, 5), rest=0.8, p_value=0.005,
        stability=0.9, predicted=1, predicted_count=3, nearest=0,
    )  # fmt: skip
    (shown,) = described_groups([group], images, image_traits(images))
    assert shown.ids == ("0", "2", "4", "6", "8") and shown.differences == ()
    assert shown.words == (
        "5 images of cat: 20 % of them are right, and 80 % of the rest of cat. 3 of 4 mistakes are "
        "answered dog."
    )
    both = ShownGroup(
        group, "cat", (TraitDifference("sharpness", "sharper", 2, 1, 3),), shown.words, ()
    )
    assert group_verdict([shown, both], 20).startswith(
        "2 groups are misclassified more often than the rest of their"
    )
