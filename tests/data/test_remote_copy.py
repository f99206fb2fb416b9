"""Copies of remote sources: of a store in memory, so that every read can be counted or fail."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from glasshouse.cache_contents import list_cache, prune_cache
from glasshouse.data import remote_copy, remote_store
from glasshouse.data.remote_copy import SourceCopy, copy_source, forget_copy
from glasshouse.data.remote_store import RemoteFile, RemoteStore
from glasshouse.errors import DataError, StorageError, UsageError
from glasshouse.storage import cache_folder

ADDRESS = "memory://shop/photos"
FILES = {f"{name}/{n}.png": bytes([n]) * (n + 1) for name in ("ant", "bee") for n in range(5)}


class Memory:
    """fsspec's store in memory. read: how often each file was; broken: the reads that fail."""

    def __init__(self) -> None:
        self.fs: Any = fsspec.filesystem("memory")
        # A former test's own way of reading, which undoing leaves on the instance.
        vars(self.fs).pop("cat_file", None)
        self.read: Counter[str] = Counter()
        self.broken: list[Exception] = []
        self.lock = threading.Lock()
        self.cat_whole = type(self.fs).cat_file

    def write(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            self.fs.pipe_file(f"/shop/photos/{name}", data)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        with self.lock:
            if self.broken:
                raise self.broken.pop()
            self.read[path.removeprefix("/shop/photos/")] += 1
        whole: bytes = self.cat_whole(self.fs, path)
        return whole[start:end]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    store = Memory()
    # Of the class: each thread has an instance of its own.
    monkeypatch.setattr(type(store.fs), "cat_file", lambda self, *a, **o: store.cat_file(*a, **o))
    monkeypatch.setattr(remote_store, "_FIRST_DELAY_S", 0.0001)
    store.write(FILES)
    yield store
    store.fs.store.clear()
    store.fs.pseudo_dirs[:] = [""]


def everything(files: list[RemoteFile] | Any) -> set[str]:
    return {file.name for file in files}


def copied(address: str = ADDRESS, **options: Any) -> SourceCopy:
    return copy_source(address, everything, **options)


def contents(copy: SourceCopy) -> dict[str, bytes]:
    found = (path for path in copy.folder.rglob("*") if path.is_file())
    return {path.relative_to(copy.folder).as_posix(): path.read_bytes() for path in found}


def test_a_copy_has_the_files_of_the_source(memory: Memory) -> None:
    copy = copied()
    assert contents(copy) == FILES
    assert copy.address == ADDRESS
    assert copy.folder.is_relative_to(cache_folder())


def test_each_file_is_read_once_however_often_a_source_is_used(memory: Memory) -> None:
    for _ in range(3):
        copied(f"{ADDRESS}/")
    assert set(memory.read.values()) == {1}
    assert len(memory.read) == len(FILES)


def test_only_what_changed_is_read_again_and_what_is_gone_is_removed(memory: Memory) -> None:
    copied()
    memory.read.clear()
    memory.write({"ant/1.png": b"\x09\x09", "cow/0.png": b"new"})
    for n in range(5):
        memory.fs.rm_file(f"/shop/photos/bee/{n}.png")
    copy = copied()
    assert memory.read == {"ant/1.png": 1, "cow/0.png": 1}
    kept = {name: data for name, data in FILES.items() if name.startswith("ant")}
    assert contents(copy) == {**kept, "ant/1.png": b"\x09\x09", "cow/0.png": b"new"}
    # An empty folder would be a class without images.
    assert not (copy.folder / "bee").exists()


def test_a_file_that_was_damaged_or_lost_on_this_disk_is_read_again(memory: Memory) -> None:
    copy = copied()
    memory.read.clear()
    (copy.folder / "ant" / "2.png").write_bytes(b"")
    (copy.folder / "bee" / "3.png").unlink()
    assert contents(copied()) == FILES
    assert memory.read == {"ant/2.png": 1, "bee/3.png": 1}


def test_an_interrupted_copy_continues_with_what_is_missing(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copy, "THREADS", 1)
    read = RemoteStore.read

    def until_the_seventh(self: RemoteStore, file: RemoteFile, *where: int) -> bytes:
        if sum(memory.read.values()) == 6:
            raise KeyboardInterrupt
        return read(self, file, *where)

    monkeypatch.setattr(RemoteStore, "read", until_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        copied()
    monkeypatch.setattr(RemoteStore, "read", read)
    assert contents(copied()) == FILES
    assert set(memory.read.values()) == {1}


def test_a_list_that_was_cut_off_costs_one_file(memory: Memory) -> None:
    copy = copied()
    memory.read.clear()
    log = copy.folder.parent / "fetched.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    assert contents(copied()) == FILES
    assert sum(memory.read.values()) == 1


def test_transient_errors_are_retried_with_delays_that_double(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote_copy, "THREADS", 1)
    store = RemoteStore(ADDRESS)

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

    store.closed = Clock()
    memory.broken = [OSError(5, "busy"), TimeoutError(), ConnectionResetError()]
    (first, *_) = store.files()
    assert store.read(first) == FILES[first.name]
    assert waited == [0.0001, 0.0002, 0.0004]


def test_errors_that_last_end_the_copy_and_keep_what_was_fetched(memory: Memory) -> None:
    memory.broken = [OSError(5, "the store is out of order")] * 1000
    with pytest.raises(DataError, match=r"out of order.*continues"):
        copied()
    memory.broken = []
    assert contents(copied()) == FILES


def test_what_is_permanent_is_not_retried(memory: Memory) -> None:
    memory.broken = [PermissionError("no")] * 1000
    with pytest.raises(DataError, match="access was refused: no"):
        copied()
    assert len(memory.broken) > 1000 - 2 * remote_store.THREADS


def test_bytes_that_do_not_arrive_are_asked_for_again(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = memory.cat_file

    def cut_off_first(path: str, **options: Any) -> bytes:
        data = whole(path, **options)
        return data[:-1] if sum(memory.read.values()) == 1 else data

    monkeypatch.setattr(memory.fs, "cat_file", cut_off_first)
    monkeypatch.setattr(remote_copy, "THREADS", 1)
    assert contents(copied()) == FILES


def test_a_large_file_continues_in_the_middle(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 40
    memory.write({"big.tar": data})
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(remote_store, "_ATTEMPTS", 1)
    only = lambda files: {"big.tar"}  # noqa: E731
    read = memory.cat_file

    def until_the_fifth(path: str, **options: Any) -> bytes:
        if memory.read["big.tar"] == 5:
            raise OSError(5, "gone")
        return read(path, **options)

    monkeypatch.setattr(memory.fs, "cat_file", until_the_fifth)
    with pytest.raises(DataError, match="gone"):
        copy_source(ADDRESS, only)
    monkeypatch.setattr(memory.fs, "cat_file", read)
    copy = copy_source(ADDRESS, only)
    assert (copy.folder / "big.tar").read_bytes() == data
    assert memory.read["big.tar"] == 11


def test_a_large_file_that_is_replaced_while_it_is_read_is_never_a_mixture(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = bytes(4000), bytes([1]) * 4000
    memory.write({"big.tar": old})
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)

    def replaced_after_two(path: str, **options: Any) -> bytes:
        if memory.read["big.tar"] == 2:
            memory.write({"big.tar": new})
        return memory.cat_file(path, **options)

    monkeypatch.setattr(memory.fs, "cat_file", replaced_after_two)
    with pytest.raises(DataError, match=r"big\.tar was replaced while it was read"):
        copy_source(ADDRESS, lambda files: {"big.tar"})
    copy = copy_source(ADDRESS, lambda files: {"big.tar"})
    assert (copy.folder / "big.tar").read_bytes() == new


def test_a_server_that_knows_no_ranges_sends_the_whole_file(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 40
    memory.write({"big.tar": data})
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(memory.fs, "cat_file", lambda path, **_: memory.cat_file(path))
    copy = copy_source(ADDRESS, lambda files: {"big.tar"})
    assert (copy.folder / "big.tar").read_bytes() == data


def test_files_that_nobody_reads_are_there_without_their_content(memory: Memory) -> None:
    memory.write({"notes.txt": b"a long text"})
    copy = copy_source(ADDRESS, lambda files: everything(files) - {"notes.txt"})
    assert contents(copy) == {**FILES, "notes.txt": b""}
    assert memory.read["notes.txt"] == 0
    # Wanted later, it is fetched.
    assert contents(copied())["notes.txt"] == b"a long text"


def test_markers_of_folders_are_no_files(memory: Memory) -> None:
    memory.write({"ant": b""})
    if len(memory.fs.find("/shop/photos")) < len(FILES):
        memory.fs.rm_file("/shop/photos/ant")
        pytest.skip("the store in memory of this fsspec hides what is behind a marker")
    assert contents(copied()) == FILES


@pytest.mark.parametrize("name", ["../../escape.png", "ant/../../x.png", "ant\\x.png", "a:b.png"])
def test_a_name_that_leads_elsewhere_is_refused(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = RemoteFile("/x", name, 1, "v")
    monkeypatch.setattr(RemoteStore, "files", lambda self: [odd])
    with pytest.raises(DataError, match="relative names"):
        copied()
    assert not list(cache_folder().rglob("*.png"))


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_read(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(StorageError, match=r"needs 0\.0 MB.*free.*GLASSHOUSE_CACHE"):
        copied()
    assert not memory.read


def test_offline_nothing_is_connected_to(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_copy, "RemoteStore", None)
    with pytest.raises(UsageError, match="--offline"):
        copied(offline=True)


def test_a_source_without_files_is_an_error(memory: Memory) -> None:
    with pytest.raises(DataError, match="does not exist"):
        copied("memory://shop/nothing")


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"unknown protocol s33://.*'s3'"):
        copied("s33://bucket/x")


def test_all_is_fetched_again_when_it_is_asked_for(memory: Memory) -> None:
    copied()
    forget_copy(ADDRESS)
    copied()
    assert set(memory.read.values()) == {2}


def test_a_copy_is_listed_and_kept_while_it_is_used(memory: Memory) -> None:
    copy = copied()
    (entry,) = list_cache()
    assert (entry.kind, entry.source, entry.state) == ("copy", ADDRESS, "complete")
    assert entry.what == "copy of 10 files"
    assert entry.size > sum(map(len, FILES.values()))
    assert entry.is_used
    assert not prune_cache(0).removed
    assert contents(copy) == FILES
    assert copy.held is not None
    copy.held.close()
    assert prune_cache(0).removed == (entry,)
    assert not copy.folder.exists()
    assert not list_cache()
    assert contents(copied()) == FILES


def test_the_progress_counts_files(memory: Memory) -> None:
    seen: list[tuple[str, int, int]] = []
    copied(progress=lambda *now: seen.append(now))
    assert seen == [("fetching files", n, 10) for n in range(1, 11)]


def test_nothing_about_credentials_is_written(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhushhush")
    copied()
    for path in cache_folder().rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes()


def test_two_copies_at_the_same_time_read_each_file_once(memory: Memory) -> None:
    threads = [threading.Thread(target=copied) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(memory.read.values()) == {1}


def test_the_record_says_what_it_is_a_copy_of(memory: Memory) -> None:
    copy = copied()
    record = json.loads(Path(copy.folder.parent / "copy.json").read_text(encoding="utf-8"))
    assert record == {"source": ADDRESS}
