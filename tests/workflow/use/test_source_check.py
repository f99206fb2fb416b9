"""The check of a source, and what stops training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glasshouse.data.findings import Finding
from glasshouse.data.sources import load_splits
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
    assert "Fix it before training" in page


def test_a_verdict_counts_what_stops_training() -> None:
    error = Finding("leaked-duplicates", "error", "", "")
    warning = Finding("small-part", "warning", "", "")
    assert verdict([error]) == "1 error would invalidate metrics. Fix it before training."
    assert verdict([error, error, warning]) == (
        "2 errors would invalidate metrics, and 1 warning. Fix them before training."
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


def one_broken(root: Path) -> Path:
    """Three splits, in one of which the only image of a class is broken."""
    for split in ("train", "val", "test"):
        write_folder(root / split)
    for path in (root / "test" / "cat").iterdir():
        path.unlink()
    (root / "test" / "cat" / "only.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return root


def table_of(root: Path, *, old: str, new: str) -> Path:
    """A table of class folders whose paths are changed, so that no file is found."""
    source = write_folder(root / "set")
    rows = [f"set/{path.parent.name}/{path.name}".replace(old, new) for path in source.rglob("*.*")]
    lines = [f"{row},{'cat' if 'cat' in row else 'dog'}" for row in rows]
    (root / "table.csv").write_text("\n".join(["path,label", *lines]))
    return root / "table.csv"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (one_broken, "PNG"),
        (lambda root: table_of(root, old="/", new="\\"), "the file does not exist"),
        (lambda root: table_of(root, old=".png", new=""), "the file does not exist"),
    ],
    ids=["the only file of a class", "backslashes", "no extensions"],
)
def test_a_source_without_readable_files_is_a_finding_with_the_reasons(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    source = make(tmp_path)
    found = examine(str(source), DataSettings(image_size=8))
    (finding,) = found.findings
    assert found.blocks
    assert "has no image of class 'cat'" in finding.detail
    assert len(finding.ids) == len(finding.reasons) > 0
    assert all(reason in each for each in finding.reasons)
    page = write_examination(found, tmp_path / "out").read_text(encoding="utf-8")
    assert finding.reasons[0] in page
    # Training names the same reasons, also where it skips bad files.
    for on_bad_file in ("error", "skip"):
        settings = DataSettings(image_size=8, on_bad_file=on_bad_file)
        with pytest.raises(DataError, match=f"cannot be read as images:\n.*{reason}"):
            load_splits(str(source), settings)
