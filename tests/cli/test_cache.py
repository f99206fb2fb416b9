"""`glasshouse cache` lists, prunes and limits."""

import json
from pathlib import Path

import pytest

from glasshouse.data.cache import cached_images
from glasshouse.data.fitting import Fitting
from glasshouse.storage import cache_folder
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here


def build(root: Path) -> None:
    write_folder(root, {"cat": 3})
    cached_images(sorted(root.rglob("*.png")), Fitting(8, 8, "crop"), workers=1)


def test_an_empty_cache_is_said_to_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = glasshouse_here(["cache"], capsys)
    assert (code, output) == (0, f"the cache in {cache_folder()} is empty\n")


def test_the_list_names_what_size_last_use_and_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "photos")
    monkeypatch.setenv("GLASSHOUSE_CACHE_LIMIT", "2GB")
    _, output, _ = glasshouse_here(["cache"], capsys)
    head, _, columns, *rows = output.splitlines()
    assert head.startswith(f"{cache_folder()}: ") and "of at most 2.0 GB in 2 entries" in head
    assert columns.split("  ")[0] == "last used"
    (row,) = (row for row in rows if " 3 images, 8x8, crop" in row)
    assert row.endswith(str(tmp_path / "photos" / "cat"))
    assert " KB " in row or " B " in row


def test_pruning_prints_what_was_freed_and_json_names_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "photos")
    _, output, _ = glasshouse_here(["cache", "--prune", "1d", "--json"], capsys)
    facts = json.loads(output)
    assert facts["removed"] == facts["kept"] == []
    assert {entry["kind"] for entry in facts["entries"]} == {"images", "index"}
    assert facts["bytes"] == sum(
        Path(f).stat().st_size for e in facts["entries"] for f in e["files"]
    )
    _, output, _ = glasshouse_here(["cache", "--prune", "all"], capsys)
    assert output.startswith("removed 2 entries, ")
    assert output.endswith("is empty\n")


def test_a_limit_is_kept_and_a_wrong_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "photos")
    _, output, _ = glasshouse_here(["cache", "--limit", "0"], capsys)
    assert output.startswith("removed 1 entry, ")
    code, _, errors = glasshouse_here(["cache", "--limit", "five"], capsys)
    assert code == 2
    assert "expected a size such as 5GB" in errors
