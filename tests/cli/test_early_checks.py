"""Where results may go: never among the images that they were made from."""

from pathlib import Path

import pytest

from glasshouse.cli import early_checks
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.mark.parametrize("place", ["photos", "photos/cat"])
def test_runs_of_the_current_folder_go_next_to_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    monkeypatch.chdir(tmp_path / place)
    assert early_checks.runs_folder(str(source)) == tmp_path / "runs"
    assert early_checks.runs_folder("digits") == Path("runs")
    monkeypatch.chdir(tmp_path)
    assert early_checks.runs_folder("photos") == Path("runs")


def test_a_training_in_the_folder_of_its_images_leaves_no_class_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "photos", {"cat": 6, "dog": 6})
    monkeypatch.chdir(source)
    before = sorted(source.rglob("*"))
    short = ["--epochs", "1", "--image-size", "16", "--recipe", "small-cnn"]
    code, _, errors = glasshouse_here(["train", ".", *short], capsys)
    assert code == 0, errors
    assert "2 classes" in errors
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["photos-small-cnn-1"]
    assert "2 classes" in glasshouse_here(["check", "."], capsys)[1]
    assert sorted(source.rglob("*")) == before
