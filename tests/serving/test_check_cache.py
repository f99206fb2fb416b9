"""Checks of sources that are kept while the workbench runs."""

from pathlib import Path

import pytest

from glasshouse.serving import check_cache
from glasshouse.serving.check_cache import CachedCheck, check_cache_of, image_of
from glasshouse.serving.workbench import Workbench
from tests.workflow.use.test_source_check import write_folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> CachedCheck:
    workbench = Workbench(tmp_path_factory.mktemp("runs"), offline=True)
    return check_cache_of(workbench).get("digits")


def test_the_last_few_checks_are_kept(tmp_path: Path) -> None:
    kept = check_cache_of(Workbench(tmp_path, offline=True))
    first = kept.get("digits")
    assert kept.get("digits") is first
    assert kept.get("digits", again=True) is not first
    for name in ("a", "b", "c"):
        kept.get(str(write_folder(tmp_path / name)))
    assert kept.with_key(kept.get("digits").key) is not None
    assert kept.with_key(first.key) is None
    assert image_of(kept.workbench, first.key, 0) is None


def test_the_check_that_was_not_looked_at_for_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_cache, "examine", lambda source, *parts, **more: source)
    kept = check_cache_of(Workbench(tmp_path / "runs", offline=True))
    keys = [kept.get(source).key for source in "abc"]
    kept.get("a")
    kept.get("d")
    assert [kept.with_key(key) is not None for key in keys] == [True, False, True]


def test_rows_run_through_the_training_validation_and_test_split(digits: CachedCheck) -> None:
    assert digits.splits is not None
    first = 0
    for images in (digits.splits.train, digits.splits.validation, digits.splits.test):
        for inner in (0, len(images) - 1):
            found = digits.locate(first + inner)
            assert found is not None
            assert found[1] is images and found[2] == inner
            assert digits.row_of[str(images.ids[inner])] == first + inner
        first += len(images)
    assert digits.locate(first) is None and digits.locate(-1) is None
