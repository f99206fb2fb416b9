"""Copies on a disk that several machines share, whose locks hold within a machine or not at all."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glasshouse import file_lock
from glasshouse.cache_contents import list_cache, own_parts
from glasshouse.cache_pruning import prune_cache
from glasshouse.data import remote_copy
from glasshouse.data.remote_copy import SourceCopy, copy_source, forget_copy
from glasshouse.data.remote_store import RemoteFile, RemoteStore
from tests.data.memory_store import ADDRESS, FILES, Memory, memory_store

BIG, CONTENT = "big.tar", bytes(range(250)) * 16
ANOTHER = "another"


class Interrupted(BaseException):
    pass


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr(remote_copy, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(remote_copy, "THREADS", 1)
    with memory_store(monkeypatch) as store:
        yield store


@pytest.fixture
def local_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock is seen by another thread, which stands for a machine where it has such a name."""
    monkeypatch.setattr(file_lock, "_lock", lambda handle: None)
    monkeypatch.setattr(file_lock, "_try_lock", lambda handle: True)
    monkeypatch.setattr("platform.node", lambda: threading.current_thread().name)


def copied(*names: str) -> SourceCopy:
    return copy_source(ADDRESS, lambda files: names or {file.name for file in files})


def contents(copy: SourceCopy) -> dict[str, bytes]:
    found = (path for path in copy.folder.rglob("*") if path.is_file())
    return {path.relative_to(copy.folder).as_posix(): path.read_bytes() for path in found}


def elsewhere(do: Callable[[], Any]) -> Any:
    """The result of what another machine does, or its error."""
    found: list[Any] = []

    def keep() -> None:
        try:
            found.append(do())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=keep, name=ANOTHER)
    thread.start()
    thread.join()
    return found[0]


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, when: int, do: Callable[[], Any]
) -> list[RemoteFile]:
    """Have something done once before the read of this number; returns what is read."""
    read, seen = RemoteStore.read, list[RemoteFile]()

    def with_others(self: RemoteStore, file: RemoteFile, *where: int) -> bytes:
        seen.append(file)
        if len(seen) == when:
            do()
        return read(self, file, *where)

    monkeypatch.setattr(RemoteStore, "read", with_others)
    return seen


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, copy: Callable[[], Any]) -> None:
    def stop() -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        meanwhile(patch, at, stop)
        with pytest.raises(Interrupted):
            copy()


def place() -> Path:
    (entry,) = list_cache()
    return entry.files[0].parent


def parts() -> list[Path]:
    return [part for folder in place().glob("parts*") for part in folder.iterdir()]


def age(folder: Path, hours: float) -> None:
    for path in (*folder.iterdir(), folder):
        then = path.stat().st_mtime - 3600 * hours
        os.utime(path, (then, then))


@pytest.mark.parametrize("when", [1, 4])
def test_another_machine_may_fetch_the_same_small_files_at_the_same_time(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None, when: int
) -> None:
    others: list[Any] = []
    stamps: dict[Path, int] = {}

    def fetch_all() -> None:
        others.append(elsewhere(copied))
        stamps.update({path: path.stat().st_ino for path in others[0].folder.rglob("*.png")})

    meanwhile(monkeypatch, when, fetch_all)
    copy = copied()
    assert contents(copy) == FILES == contents(others[0])
    # The other machine may be reading its files already.
    assert {path: path.stat().st_ino for path in stamps} == stamps
    (entry,) = list_cache()
    assert entry.what == "copy of 10 files"
    assert not list(place().glob("parts*"))
    memory.read.clear()
    assert contents(copied()) == FILES
    assert not memory.read


@pytest.mark.parametrize("when", [1, 2, 4])
def test_another_machine_may_fetch_the_same_large_file_at_the_same_time(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None, when: int
) -> None:
    memory.write({BIG: CONTENT})
    others: list[Any] = []
    meanwhile(monkeypatch, when, lambda: others.append(elsewhere(lambda: copied(BIG))))
    for copy in (copied(BIG), others[0]):
        assert (copy.folder / BIG).read_bytes() == CONTENT
    assert memory.read[BIG] == 8


def test_what_another_machine_was_fetching_is_left_to_it_until_it_is_old(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    interrupt(monkeypatch, 3, lambda: copied(BIG))
    (part,) = parts()
    assert len(part.read_bytes()) == 2000 and part.parent == own_parts(place())
    elsewhere(lambda: forget_copy(ADDRESS))
    assert (elsewhere(lambda: copied(BIG)).folder / BIG).read_bytes() == CONTENT
    assert memory.read[BIG] == 2 + 4
    age(part.parent, 23)
    elsewhere(lambda: copied(BIG))
    assert part.exists()
    age(part.parent, 2)
    elsewhere(lambda: copied(BIG))
    assert not part.parent.exists()


def test_its_owner_continues_at_any_age(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    interrupt(monkeypatch, 3, lambda: copied(BIG))
    age(own_parts(place()), 1000)
    meanwhile(monkeypatch, 1, lambda: elsewhere(lambda: copied(BIG)))
    assert (copied(BIG).folder / BIG).read_bytes() == CONTENT
    assert memory.read[BIG] == 2 + 4 + 2


def test_an_empty_folder_of_another_machine_is_one_that_was_just_made(
    memory: Memory, local_locks: None
) -> None:
    copied()
    made = elsewhere(lambda: own_parts(place()))
    made.mkdir()
    copied()
    assert made.exists()
    os.utime(made, (1, 1))
    copied()
    assert not made.exists()


@pytest.mark.parametrize("name", ["parts", "parts-01234567-89abcdef"])
def test_parts_of_earlier_versions_and_without_locks_are_removed_when_they_are_old(
    memory: Memory, name: str
) -> None:
    copied()
    folder, foreign = place() / name, place() / "parts-of-mine"
    for each in (folder, foreign):
        each.mkdir()
        (each / "x").write_bytes(b"x")
    assert folder in list_cache()[0].files and foreign not in list_cache()[0].files
    copied()
    age(folder, 25)
    age(foreign, 25)
    copied()
    assert not folder.exists() and foreign.exists()


def test_a_copy_into_which_another_machine_fetches_is_not_removed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    interrupt(monkeypatch, 3, lambda: copied(BIG))
    (part,) = parts()
    assert part.parent in list_cache()[0].files
    assert [why for _, why in elsewhere(lambda: prune_cache(0)).kept] == ["in use"]
    assert len(part.read_bytes()) == 2000
    age(part.parent, 25)
    assert elsewhere(lambda: prune_cache(0)).removed
    assert not list_cache()


def test_parts_that_go_while_they_are_listed_are_no_error(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied()
    folder = place() / "parts-01234567"
    folder.mkdir()
    rglob = Path.rglob

    def removed_before(path: Path, pattern: str) -> Iterator[Path]:
        if path == folder:
            raise FileNotFoundError
        yield from rglob(path, pattern)

    monkeypatch.setattr(Path, "rglob", removed_before)
    copied()
    assert len(list_cache()) == 1


def test_what_its_own_machine_left_of_a_copy_is_removed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None
) -> None:
    interrupt(monkeypatch, 3, copied)
    own_parts(place()).mkdir(exist_ok=True)
    assert prune_cache(0).removed
    assert not list_cache()


def test_a_list_that_another_machine_replaces_misses_nothing_that_follows(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, local_locks: None
) -> None:
    copied()
    memory.write({"ant/1.png": b"\x09\x09", "cow/0.png": b"new"})

    def begin_and_stop() -> None:
        memory.write({"bee/0.png": b"other"})
        with monkeypatch.context() as patch:
            patch.setattr(remote_copy._Fetching, "_fetch", lambda *_: 1 / 0)
            assert isinstance(elsewhere(copied), ZeroDivisionError)

    meanwhile(monkeypatch, 1, begin_and_stop)
    copied()
    memory.read.clear()
    assert contents(copied())["bee/0.png"] == b"other"
    assert memory.read == {"bee/0.png": 1}


def test_lines_that_machines_write_over_each_other_cost_their_files(memory: Memory) -> None:
    log = copied().folder.parent / "fetched.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    short = lines[2][:-1].replace(b"  ", b" ")
    # As on NFS, where two that append at the same time find the same end.
    log.write_bytes(b"".join([*lines[:3], lines[4], lines[3][-9:], bytes(7), *lines[5:], short]))
    memory.read.clear()
    for _ in range(2):
        assert contents(copied()) == FILES
        assert set(memory.read.values()) <= {1} and 1 <= len(memory.read) <= 2


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_processes_of_a_machine_do_not_share_parts(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, no_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    others: list[Any] = []
    meanwhile(monkeypatch, 3, lambda: others.append(elsewhere(lambda: copied(BIG))))
    for copy in (copied(BIG), others[0]):
        assert (copy.folder / BIG).read_bytes() == CONTENT
    assert not list(place().glob("parts*"))


def test_without_locks_nothing_is_left_of_an_interrupted_file(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, no_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    interrupt(monkeypatch, 3, lambda: copied(BIG))
    assert not list(place().glob("parts*"))
    assert (copied(BIG).folder / BIG).read_bytes() == CONTENT


def test_without_locks_a_copy_is_not_removed_while_files_are_fetched(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, no_locks: None
) -> None:
    memory.write({BIG: CONTENT})
    kept: list[str] = []
    meanwhile(monkeypatch, 3, lambda: kept.extend(why for _, why in prune_cache(0).kept))
    assert (copied(BIG).folder / BIG).read_bytes() == CONTENT
    assert kept == ["in use"]
