"""Copies of remote sources: of a store in memory, so that every read can be counted or fail."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glasshouse.cache_contents import list_cache, own_parts
from glasshouse.cache_pruning import prune_cache
from glasshouse.data import remote_copy, remote_store
from glasshouse.data.file_index import file_stamp
from glasshouse.data.remote_copy import SourceCopy, copy_source, forget_copy
from glasshouse.data.remote_store import RemoteFile, RemoteStore
from glasshouse.errors import DataError, StorageError, UsageError
from glasshouse.file_lock import PathLock
from glasshouse.storage import cache_folder
from tests.data.memory_store import ADDRESS, FILES, Memory, memory_store


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    with memory_store(monkeypatch) as store:
        yield store


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
    for _ in range(2):
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


def test_what_is_more_than_was_listed_is_not_taken_for_the_file(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.write({"big.tar": bytes(4000)})
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)
    longer = bytes(4001)
    monkeypatch.setattr(memory.fs, "cat_file", lambda path, **_: longer)
    for _ in range(2):
        with pytest.raises(DataError, match=r"big\.tar was replaced while it was read"):
            copy_source(ADDRESS, lambda files: {"big.tar"})


def interrupt_at_third_block(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_the_third(path: str, **options: Any) -> bytes:
        if memory.read["big.tar"] == 2:
            raise KeyboardInterrupt
        return memory.cat_file(path, **options)

    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(memory.fs, "cat_file", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            copy_source(ADDRESS, lambda files: {"big.tar"})


def test_blocks_of_another_version_are_not_continued(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = bytes(4000), bytes([1]) * 4000
    memory.write({"big.tar": old})
    interrupt_at_third_block(memory, monkeypatch)
    listed = RemoteStore.files

    def replaced_after_listing(self: RemoteStore) -> list[RemoteFile]:
        found = listed(self)
        memory.write({"big.tar": new})
        return found

    monkeypatch.setattr(RemoteStore, "files", replaced_after_listing)
    copy = copy_source(ADDRESS, lambda files: {"big.tar"})
    assert (copy.folder / "big.tar").read_bytes() == new
    assert memory.read["big.tar"] == 2 + 4


def test_blocks_whose_version_nobody_knows_are_not_continued(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_VERSIONS", ())
    memory.write({"big.tar": bytes(4000)})
    interrupt_at_third_block(memory, monkeypatch)
    memory.write({"big.tar": bytes([1]) * 4000})
    copy = copy_source(ADDRESS, lambda files: {"big.tar"})
    assert (copy.folder / "big.tar").read_bytes() == bytes([1]) * 4000


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


def test_what_is_fetched_again_is_to_be_decoded_again_where_that_is_asked_for(
    memory: Memory,
) -> None:
    name = "ant/1.png"
    path = copied().folder / name
    before = file_stamp(path)
    memory.write({name: FILES[name]})
    copied()
    # The store calls it new, but its content is not.
    assert memory.read[name] == 2 and file_stamp(path) == before
    forget_copy(ADDRESS)
    copied()
    assert memory.read[name] == 3 and file_stamp(path) != before


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


def test_it_is_said_that_another_process_is_waited_for(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_copy, "_RETRY_S", 0.001)
    lock = PathLock(copied().folder.parent)
    said: list[tuple[str, int, int]] = []
    assert lock.acquire(wait=False)

    def progress(*what: Any) -> None:
        said.append(what)
        lock.release()

    assert contents(copied(progress=progress)) == FILES
    assert said == [("waiting for another process that is fetching these files", 0, len(FILES))]


def test_the_record_says_what_it_is_a_copy_of(memory: Memory) -> None:
    copy = copied()
    record = json.loads(Path(copy.folder.parent / "copy.json").read_text(encoding="utf-8"))
    assert record == {"source": ADDRESS}


def files_of(*names: str, size: int | None = 1) -> list[RemoteFile]:
    return [RemoteFile(name, name, size, "v") for name in names]


def test_only_empty_files_that_are_folders_as_well_are_markers() -> None:
    inner, other = files_of("ant/deep/1.png")[0], files_of("empty.txt", size=0)[0]
    markers = files_of("ant", "ant/deep", size=0)
    assert remote_copy._without_markers([*markers, inner, other]) == [inner, other]
    (full,) = files_of("ant")
    assert remote_copy._without_markers([full, inner]) == [full, inner]
    assert remote_copy._without_markers([*files_of("ant", size=None), inner]) == [inner]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([""], "has a file named '': expected relative names without '..', backslashes and "
               "colons; rename it"),
        (["/a"], "has a file named '/a'"),
        (["a/.."], "has a file named 'a/..'"),
        (["a\0b"], "has a file named 'a\\x00b'"),
        (["a//b", "a/b"], ": 'a/b' and 'a//b' would be the same file"),
        (["a", "b", "a/x/y"], ": 'a' is a file, and 'a/x/y' is in it"),
    ],
)  # fmt: skip
def test_names_that_would_be_written_elsewhere_or_over_others_are_refused(
    names: list[str], words: str
) -> None:
    with pytest.raises(DataError) as found:
        remote_copy._require_safe_names(files_of(*names), "ADDRESS")
    assert words in str(found.value)


def test_plain_names_are_accepted() -> None:
    remote_copy._require_safe_names(files_of("a", "b/a", "b/..c", "c.d/e f"), "ADDRESS")


class Blocks:
    """A store that notes what is read of a file of letters."""

    address = "ADDRESS"

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, ...]] = []

    def read(self, file: RemoteFile, start: int | None = None, stop: int | None = None) -> bytes:
        self.asked.append((start, stop))
        return b"abcdefghij"[start:stop]

    def version_now(self, file: RemoteFile) -> str:
        return "same"


def fetching(place: Path) -> tuple[remote_copy._Fetching, Blocks]:
    store: Any = Blocks()
    (place / "parts").mkdir(parents=True)
    (place / "files").mkdir()
    return remote_copy._Fetching(place, place / "parts", store, None), store


def test_files_of_up_to_a_block_are_read_at_once_and_larger_ones_from_where_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remote_copy._BLOCK_BYTES == 8 * 1024 * 1024
    work, store = fetching(tmp_path)
    (large,) = files_of("deep/er/large", size=10)
    for size in (11, 10):
        monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", size)
        work._fetch(large)
    work._fetch(RemoteFile("x", "unknown", None, "v"))
    assert store.asked == [(None, None)] * 3
    store.asked.clear()
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 4)
    work._fetch(large)
    work._part(large, "same").write_bytes(b"abc")
    work._fetch(large)
    assert store.asked == [(0, 4), (4, 8), (8, 10), (3, 7), (7, 10)]
    assert (tmp_path / "files/deep/er/large").read_bytes() == b"abcdefghij"
    assert not list((tmp_path / "parts").iterdir())


def test_a_part_belongs_to_one_version_of_a_file(tmp_path: Path) -> None:
    work, _ = fetching(tmp_path)
    files = [RemoteFile("p", "n", 1, "v"), RemoteFile("p", "n", 2, "v"),
             RemoteFile("p", "n", 1, "w"), RemoteFile("p", "m", 1, "v")]  # fmt: skip
    parts = [work._part(file) for file in files]
    assert len(set(parts)) == 4 and work._part(files[0]) == parts[0]
    assert {(len(part.name), part.parent) for part in parts} == {(32, tmp_path / "parts")}
    assert work._part(files[0], "now") != work._part(files[0], "later")
    assert work._part(files[0], "now").name.startswith(parts[0].name)
    assert len(remote_copy._place("s3://x").name) == 32


def test_the_space_that_is_needed_is_what_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, _ = fetching(tmp_path)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(remote_copy, "require_disk_space", lambda *given: asked.append(given))
    (tmp_path / "parts" / "x").write_bytes(b"123")
    work._require_space([*files_of("a", "b", size=50), *files_of("c", size=None)])
    assert asked == [(tmp_path, 97, "the copy of ADDRESS")]


def test_what_is_current_has_its_version_and_its_size(tmp_path: Path) -> None:
    work, _ = fetching(tmp_path)
    (tmp_path / "files" / "full").write_bytes(b"123")
    (tmp_path / "files" / "none").touch()

    def is_current(name: str, size: int | None, have: str | None, version: str = "V") -> bool:
        return work._is_current(RemoteFile("p", name, size, "v"), have, version)

    assert is_current("full", 3, "V") and is_current("full", None, "V")
    assert not is_current("full", 4, "V") and not is_current("lost", 3, "V")
    assert not is_current("full", 3, None) and not is_current("full", 3, "W")
    assert is_current("none", 5, "", "") and is_current("none", None, "", "")
    assert not is_current("full", 3, "", "") and not is_current("full", None, "", "")
    assert not work._is_current(RemoteFile("p", "full", 3, ""), "V", "V")
    assert work._is_current(RemoteFile("p", "none", 3, ""), "", "")


def test_lines_that_are_damaged_say_nothing(tmp_path: Path) -> None:
    assert remote_copy._fetched(tmp_path) == ({}, 0)
    lines = ['["a", "1"]', '["b", "1", "2"]', "7", '["c"', '["d", "1"]', '["d", "2"]']
    (tmp_path / "fetched.jsonl").write_text("\n".join(lines))
    assert remote_copy._fetched(tmp_path) == ({"a": "1", "d": "2"}, 6)


def test_the_list_of_what_is_complete_is_kept_in_step(memory: Memory) -> None:
    log = copied().folder.parent / "fetched.jsonl"
    before = log.read_text()
    assert len(before.splitlines()) == 10 and "ant/1.png" in before
    memory.fs.rm_file("/shop/photos/ant/1.png")
    memory.write({"ant/2.png": b"new"})
    own_parts(log.parent).mkdir()
    copied(progress=None)
    names = [json.loads(line)[0] for line in log.read_text().splitlines()]
    assert sorted(names) == sorted({*FILES} - {"ant/1.png"})
    assert names[-1] == "ant/2.png"
    assert not own_parts(log.parent).exists()
    shutil.copy(log, log.with_name("same"))
    assert "ant/2.png" in log.read_text() and copied().folder == log.with_name("files")
    assert log.read_bytes() == log.with_name("same").read_bytes()


def test_forgetting_removes_parts_and_what_was_never_copied_is_forgotten(memory: Memory) -> None:
    forget_copy(f"{ADDRESS}/")
    place = copied().folder.parent
    own_parts(place).mkdir()
    forget_copy(f"{ADDRESS}/")
    assert not own_parts(place).exists() and not (place / "fetched.jsonl").exists()
    forget_copy(ADDRESS)


def test_a_copy_that_cannot_be_written_is_named(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(remote_copy, "_place", lambda address: tmp_path / "file" / "x")
    words = r"^cannot write the copy of memory://shop/photos in .*file/x: .+\. .+\.$"
    with pytest.raises(StorageError, match=words):
        copied()


def test_texts_about_a_copy_name_the_address(tmp_path: Path) -> None:
    copy = SourceCopy(ADDRESS, tmp_path)
    assert copy.shown(f"{tmp_path}/a, {tmp_path}/b") == f"{ADDRESS}/a, {ADDRESS}/b"
    assert remote_copy.require_remote(f"{ADDRESS}/") == ADDRESS


def test_what_is_under_way_is_waited_for_and_no_more_is_begun() -> None:
    class Store:
        closed = threading.Event()

    store: Any = Store()
    begun, go, done = threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        go.wait(60)
        done.append(1)

    with pytest.raises(KeyboardInterrupt), remote_copy._threads(store) as pool:
        assert pool._max_workers == 16
        pool.submit(slow)
        begun.wait(60)
        threading.Timer(0.01, go.set).start()
        raise KeyboardInterrupt
    assert done == [1] and store.closed.is_set()
