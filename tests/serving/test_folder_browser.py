"""Only folders below the roots are listed."""

from dataclasses import replace
from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.serving.folder_browser import browse, browse_roots
from glasshouse.serving.workbench import Workbench


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("photos/cats", "photos/.hidden", "Empty", "../outside"):
        (tmp_path / "root" / name).mkdir(parents=True, exist_ok=True)
    for name in ("photos/labels.csv", "photos/one.jpg", "photos/.cache.csv"):
        (tmp_path / "root" / name).write_text("x", encoding="utf-8")
    (tmp_path / "root" / "way-out").symlink_to(tmp_path / "outside")
    return tmp_path / "root"


def test_folders_and_tables_are_listed_without_hidden_ones_and_ways_out(root: Path) -> None:
    top = browse([root], root)
    assert (top.folders, top.tables, top.parent) == (("Empty", "photos"), (), None)
    photos = browse([root], root / "photos")
    assert (photos.folders, photos.tables, photos.file_count) == (("cats",), ("labels.csv",), 2)
    assert photos.parent == root.resolve() and not photos.is_cut


@pytest.mark.parametrize(
    "name", ["..", "../outside", "way-out", "photos/one.jpg", "none", "a\0b", "a" * 5000]
)
def test_no_path_leads_out_of_the_roots(root: Path, name: str) -> None:
    with pytest.raises(UsageError):
        browse([root], root / name)


def test_the_roots_are_the_working_home_and_data_folders(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(root / "Empty"))
    workbench = Workbench(root / "runs", data_dir=root / "photos")
    working_and_home = {"Working folder": root, "Home": root / "Empty"}
    assert browse_roots(workbench) == {**working_and_home, "Data sets": root / "photos"}
    assert browse_roots(replace(workbench, data_dir=root / "none")) == working_and_home
    assert browse_roots(replace(workbench, data_dir=root / "Empty")) == working_and_home
