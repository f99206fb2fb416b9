"""The check of a source, and what stops training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.findings import Finding
from glasshouse.errors import DataError, UsageError
from glasshouse.report.data_report import verdict
from glasshouse.settings import DataSettings
from glasshouse.storage import read_json
from glasshouse.workflow.use.source_check import examine, require_no_errors, write_examination
from tests.conftest import make_images
from tests.data.test_image_checks import copy_into_test, sound


def write_folder(root: Path, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    images = make_images(40 * len(names), size=24)
    for number, image in enumerate(images.pixels):
        folder = root / names[number % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:03d}.png")
    return root


def test_a_folder_is_examined_with_its_bad_files(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "set")
    (source / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    found = examine(str(source), DataSettings())
    assert not found.blocks
    (bad,) = [finding for finding in found.findings if finding.kind == "bad-files"]
    assert bad.ids[0].endswith("broken.jpg")
    assert found.splits is not None


def test_a_source_that_cannot_be_loaded_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "set" / "cat").mkdir(parents=True)
    found = examine(str(tmp_path / "set"), DataSettings())
    assert found.blocks
    assert found.splits is None
    assert "has no class folders" in found.findings[0].detail
    page = write_examination(found, tmp_path / "out").read_text(encoding="utf-8")
    assert "Training stops at it" in page


def test_a_verdict_counts_what_stops_training() -> None:
    error = Finding("leaked-duplicates", "error", "", "")
    warning = Finding("small-part", "warning", "", "")
    assert verdict([error]) == "1 error would invalidate metrics. Training stops at it."
    assert verdict([error, error, warning]) == (
        "2 errors would invalidate metrics, and 1 warning. Training stops at them."
    )


def test_an_unknown_source_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        examine("digit", DataSettings())


def test_data_errors_stop_training_unless_they_are_ignored() -> None:
    splits = copy_into_test(sound(), 8)
    with pytest.raises(DataError, match=r"train/0000 = test/0000(.|\n)*data\.on_finding=ignore"):
        require_no_errors(splits, DataSettings())
    require_no_errors(splits, DataSettings(on_finding="ignore"))
    require_no_errors(sound(), DataSettings())


def test_of_a_thousand_equal_images_a_few_are_named() -> None:
    splits = sound()
    one = splits.train.pixels[:1]
    train = replace(splits.train, pixels=one.repeat(len(splits.train), axis=0))
    test = replace(splits.test, pixels=one.repeat(len(splits.test), axis=0))
    leaked = replace(splits, train=train, test=test)
    with pytest.raises(DataError, match=r" and \d+ more") as caught:
        require_no_errors(leaked, DataSettings())
    assert len(str(caught.value)) < 1000


def test_the_page_shows_duplicates_side_by_side_and_escapes_names(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    source = write_folder(tmp_path / "set", ("cat", hostile))
    pixels = np.asarray(Image.open(source / "cat" / "000.png"))
    Image.fromarray(pixels).save(source / hostile / "copy.png")
    found = examine(str(source), DataSettings())
    page = write_examination(found, tmp_path / "out").read_text(encoding="utf-8")
    assert hostile not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "side by side" in page
    assert page.count("data:image/png;base64,") > 16
    assert "http" not in page.replace("http-equiv", "")
    kinds = {finding["kind"] for finding in read_json(tmp_path / "out" / "check.json")}
    assert "contradicting-duplicates" in kinds
