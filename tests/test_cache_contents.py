"""The cache is listed, pruned and limited without touching what is in use or not ours."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from glasshouse.cache_contents import CacheEntry, list_cache
from glasshouse.cache_pruning import (
    LIMIT_VARIABLE,
    cache_limit,
    parse_age,
    parse_size,
    prune_cache,
    remove_all_leftovers,
    shrink_cache,
)
from glasshouse.cluster.kept_results import kept_results
from glasshouse.cluster.pieces import Outcome
from glasshouse.data.cache import Cached, cached_images
from glasshouse.data.fitting import Fitting
from glasshouse.errors import StorageError, UsageError
from glasshouse.storage import cache_folder
from glasshouse.training.feature_cache import Values, cached_rows
from tests.data.image_files import write_folder

FEATURES = "0123456789abcdef" * 2
BUILDER = """
import sys, time
from pathlib import Path
from glasshouse.data.cache import cached_images
from glasshouse.data.fitting import Fitting

def wait(what, done, total):
    print("decoding", flush=True)
    time.sleep(600)

paths = sorted(Path(sys.argv[1]).rglob("*.png"))
cached_images(paths, Fitting(16, 16, "crop"), progress=wait, workers=1)
"""
READER = """
import sys, time
from pathlib import Path
from glasshouse.data.cache import cached_images
from glasshouse.data.fitting import Fitting

found = cached_images(sorted(Path(sys.argv[1]).rglob("*.png")), Fitting(8, 8, "crop"), workers=1)
print("reading", flush=True)
time.sleep(600)
"""


def build_images(source: Path, size: int = 8) -> Cached:
    return cached_images(sorted(source.rglob("*.png")), Fitting(size, size, "crop"), workers=1)


def build_features(name: str = "a" * 32, rows: int = 4, source: str = "") -> Values:
    def compute(blocks: list[tuple[int, int]]) -> list[Values]:
        return [np.zeros((end - start, 2), np.float16) for start, end in blocks]

    whole = cache_folder() / "features" / FEATURES / f"{name}.npy"
    return cached_rows(whole, [(0, rows)], compute, source)


def age(entry: CacheEntry, days: float) -> None:
    then = time.time() - 86400 * days
    for path in entry.files:
        os.utime(path, (then, then))


def of_kind(kind: str) -> list[CacheEntry]:
    return [entry for entry in list_cache() if entry.kind == kind]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos", {"cat": 3, "dog": 3})


def started(code: str, source: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(source)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_cache_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert list_cache() == ()
    assert prune_cache(0).removed == shrink_cache(0).removed == ()
    remove_all_leftovers()
    assert not cache_folder().exists()


def test_an_index_of_relative_names_is_not_said_to_be_below_the_current_folder(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(source.parent)
    build_images(Path(source.name))
    monkeypatch.chdir(tmp_path.parent)
    (index,) = of_kind("index")
    assert index.source == source.name


def test_a_cache_that_is_a_file_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    cache_folder().write_text("")
    with pytest.raises(StorageError, match=r"cannot read the cache in .*GLASSHOUSE_CACHE"):
        list_cache()


def test_entries_are_listed_with_what_they_are_how_large_and_what_from(source: Path) -> None:
    build_images(source)
    build_features(source="resnet18, 4 images")
    (images,), (features,), (index,) = of_kind("images"), of_kind("features"), of_kind("index")
    assert images.what == "6 images, 8x8, crop"
    assert images.source == index.source == str(source)
    assert images.size == sum(path.stat().st_size for path in images.files) > 6 * 3 * 64
    assert {path.suffix for path in images.files} == {".json", ".pixels", ".survey"}
    assert index.what == "index of 6 files, 8x8, crop"
    assert (features.what, features.source) == ("features", "resnet18, 4 images")
    assert {entry.state for entry in list_cache()} == {"complete"}
    assert abs(images.used - time.time()) < 600


def test_results_of_an_interrupted_command_are_listed_and_kept_for_a_week() -> None:
    with pytest.raises(KeyError), kept_results("glasshouse predict run photos", "a", str) as kept:
        assert kept is not None
        for number in range(3):
            kept.keep((number,), Outcome(number))
        (running,) = list_cache()
        assert running.state == "being built" and prune_cache(0).removed == ()
        raise KeyError
    (entry,) = list_cache()
    assert (entry.kind, entry.state, entry.what, entry.source) == (
        "results", "unfinished", "results of 3 pieces of a command", "glasshouse predict run photos"
    )  # fmt: skip
    assert entry.size == sum(path.stat().st_size for path in entry.files) > 0
    age(entry, 6)
    remove_all_leftovers()
    assert of_kind("results")
    age(entry, 8)
    remove_all_leftovers()
    assert list_cache() == ()


def test_reading_an_entry_marks_it_as_used(source: Path) -> None:
    build_images(source)
    build_features()
    for entry in list_cache():
        age(entry, 10)
    build_images(source)
    build_features()
    assert all(entry.used > time.time() - 600 for entry in list_cache())


def test_pruning_removes_what_was_not_used_for_that_long(source: Path) -> None:
    build_images(source)
    build_features()
    for entry in (*of_kind("images"), *of_kind("index")):
        age(entry, 10)
    removed = prune_cache(9 * 86400).removed
    assert {entry.kind for entry in removed} == {"images", "index"}
    assert [entry.kind for entry in list_cache()] == ["features"]
    assert len(prune_cache(0).removed) == 1
    assert [path for path in cache_folder().rglob("*") if path.is_file()] == []
    # What was removed is made again.
    assert len(build_images(source).images) == 6
    assert len(build_features()) == 4


def test_a_limit_removes_the_least_recently_used_first(source: Path) -> None:
    names = [letter * 32 for letter in "abc"]
    for days, name in enumerate(names):
        build_features(name, rows=1000)
        (entry,) = (e for e in of_kind("features") if e.files[0].stem == name)
        age(entry, 10 - days)
    total = sum(entry.size for entry in list_cache())
    assert [entry.files[0].stem for entry in shrink_cache(total - 1).removed] == names[:1]
    assert shrink_cache(total).removed == ()
    assert [entry.files[0].stem for entry in shrink_cache(0).removed] == names[1:]


def test_what_is_mapped_is_kept_until_it_is_closed(source: Path) -> None:
    cached, features = build_images(source), build_features()
    # A slice keeps the map open, too.
    some = cached.images[2:4]
    del cached
    kept = prune_cache(0).kept
    assert {(entry.kind, reason) for entry, reason in kept} == {
        ("images", "in use"), ("features", "in use"),
    }  # fmt: skip
    assert some.sum() > 0
    del some, features
    assert {entry.kind for entry in prune_cache(0).removed} == {"images", "features"}


def test_what_another_process_reads_is_kept_until_it_ends(source: Path) -> None:
    reader = started(READER, source)
    try:
        assert [entry.is_used for entry in of_kind("images")] == [True]
        assert [entry.kind for entry, _ in shrink_cache(0).kept] == ["images"]
    finally:
        end(reader)
    assert [entry.kind for entry in shrink_cache(0).removed] == ["images"]


def test_a_live_build_is_kept_and_a_dead_one_until_it_is_old(source: Path) -> None:
    builder = started(BUILDER, source)
    try:
        (entry,) = of_kind("images")
        assert entry.is_used and entry.state == "being built"
        assert [reason for _, reason in prune_cache(0).kept] == ["in use"]
        assert [reason for _, reason in shrink_cache(0).kept] == ["in use"]
        age(entry, 8)
        remove_all_leftovers()
        assert entry.files[0].exists() and entry.files[1].exists()
    finally:
        end(builder)
    age(entry, 6)
    (entry,) = of_kind("images")
    assert (entry.state, entry.is_used, entry.source) == ("unfinished", False, str(source))
    # The next build is one of another size, in another folder.
    build_images(source)
    assert entry.files[0].exists()
    age(entry, 8)
    (lock,) = cache_folder().rglob(".building-*.lock")
    os.utime(lock, (1, 1))
    build_features()
    assert not any(path.exists() for path in (*entry.files, lock))


def test_an_interrupted_build_is_pruned_as_other_entries_are(source: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images(sorted(source.rglob("*.png")), Fitting(8, 8, "crop"), progress=interrupt)
    (entry,) = list_cache()
    assert entry.what == "1 image so far, 8x8, crop"
    assert prune_cache(86400).removed == ()
    assert shrink_cache(0).removed == (entry,)
    assert list_cache() == ()


@pytest.mark.parametrize("build", ["images", "features"])
def test_each_kind_of_build_removes_leftovers_of_both(source: Path, build: str) -> None:
    left = [
        cache_folder() / "images" / "64x64-crop-1" / ".building-1-1",
        cache_folder() / "features" / ("f" * 32) / f".{'a' * 32}.npy.1.unfinished",
        cache_folder() / "features" / ("f" * 32) / ("b" * 32) / ".000000000.npy.1-1",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert len(of_kind("leftover")) == 3
    build_images(source) if build == "images" else build_features()
    assert [path for path in left if path.exists()] == []


def test_a_small_file_that_is_just_being_replaced_is_no_leftover(source: Path) -> None:
    build_images(source)
    (folder,) = (cache_folder() / "images").iterdir()
    fresh, old = folder / f".{'a' * 32}.json.1-1", folder / f".{'b' * 32}.json.1-1"
    for path in (fresh, old):
        path.write_text("{")
    os.utime(old, (1, 1))
    remove_all_leftovers()
    assert fresh.exists() and not old.exists()


def test_a_build_keeps_the_limit_but_never_removes_what_it_built(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_features()
    monkeypatch.setenv(LIMIT_VARIABLE, "1kB")
    cached = build_images(source, 32)
    assert {entry.kind for entry in list_cache()} == {"images", "index"}
    assert len(cached.images) == 6
    build_features(rows=2000)
    del cached
    build_features("b" * 32)
    assert [entry.files[0].stem for entry in of_kind("features")] == ["b" * 32]


def test_a_limit_that_is_no_size_stops_a_build_before_it_begins(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(UsageError, match=f"{LIMIT_VARIABLE}: expected a size such as 5GB"):
        build_images(source)
    assert not cache_folder().exists()
    monkeypatch.setenv(LIMIT_VARIABLE, "2 GB")
    assert cache_limit() == 2 * 10**9
    monkeypatch.delenv(LIMIT_VARIABLE)
    assert cache_limit() is None


@pytest.mark.parametrize(
    "damage", ["no pixels", "no record", "bad record", "other values", "cut", "no survey"]
)
def test_a_damaged_entry_is_listed_as_damaged_and_pruned_at_any_age(
    source: Path, damage: str
) -> None:
    build_images(source)
    (entry,) = of_kind("images")
    record, pixels, survey = entry.files
    if damage == "cut":
        os.truncate(pixels, 10)
    elif damage in ("bad record", "other values"):
        record.write_text("{" if damage == "bad record" else '{"digests": 3, "source": 5}')
    else:
        {"no pixels": pixels, "no record": record, "no survey": survey}[damage].unlink()
    (entry,) = of_kind("images")
    assert entry.state == "damaged"
    assert [each.state for each in prune_cache(86400).removed] == ["damaged"]
    assert of_kind("images") == []


def test_an_interrupted_extraction_is_listed_as_unfinished() -> None:
    blocks = cache_folder() / "features" / FEATURES / ("a" * 32)
    blocks.mkdir(parents=True)
    (blocks / "000000000.npy").write_bytes(b"x" * 100)
    (entry,) = list_cache()
    assert (entry.kind, entry.state, entry.size) == ("features", "unfinished", 100)
    assert prune_cache(86400).removed == ()
    assert prune_cache(0).removed == (entry,)
    assert not blocks.exists()


def test_files_that_are_none_of_ours_are_never_touched(source: Path) -> None:
    build_images(source)
    (folder,) = (cache_folder() / "images").iterdir()
    (cache_folder() / "images" / "holiday").mkdir()
    foreign = [
        cache_folder() / "letter.txt", folder / "notes.txt", folder / ".hidden",
        cache_folder() / "images" / "holiday" / f"{'a' * 32}.json",
        cache_folder() / "images" / "holiday" / ".building-1-1",
    ]  # fmt: skip
    for path in foreign:
        path.write_text("mine")
        os.utime(path, (1, 1))
    prune_cache(0)
    shrink_cache(0)
    build_images(source, 9)
    assert all(path.read_text() == "mine" for path in foreign)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_what_the_system_refuses_to_remove_is_kept_with_the_reason(source: Path) -> None:
    build_images(source)
    (folder,) = (cache_folder() / "images").iterdir()
    folder.chmod(0o500)
    try:
        assert {reason for _, reason in prune_cache(0).kept} == {"Permission denied"}
    finally:
        folder.chmod(0o700)


def test_an_entry_that_cannot_be_removed_is_kept_complete(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a file that is mapped cannot be removed."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".pixels":
            raise PermissionError(13, "Access is denied")
        unlink(path, missing_ok)

    build_images(source)
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", refuse)
    assert [reason for _, reason in prune_cache(0).kept] == ["Access is denied"]
    (entry,) = of_kind("images")
    assert entry.state == "complete"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5GB", 5 * 10**9), ("500 MB", 5 * 10**8), ("1.5GiB", 3 << 29), ("0", 0), ("12", 12),
        ("2k", 2000), ("1tb", 10**12), (" 3 MiB ", 3 << 20),
    ],
)  # fmt: skip
def test_a_size_has_decimal_or_binary_units(text: str, count: int) -> None:
    assert parse_size(text, "--limit") == count


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "5 apples", "1e9", "nan", "5GBs", "1,5GB", "1.2.3GB", "5GB!"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--limit: expected a size such as 5GB or 500MB"):
        parse_size(text, "--limit")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2592000), ("12h", 43200), ("2w", 1209600), ("all", 0), ("5m", 300)],
)
def test_an_age_has_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text, "--prune") == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "30 days", "none"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--prune: expected an age such as 30d"):
        parse_age(text, "--prune")
