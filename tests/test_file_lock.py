import errno
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from glasshouse import file_lock
from glasshouse.file_lock import FileLock, PathLock, is_shared, lock_file, locked_folder, share

PATIENCE_S = 600
HOLDER = """
import sys, time
from pathlib import Path
from glasshouse import file_lock
from glasshouse.file_lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def acquire_in_a_thread(take: Callable[[], object]) -> tuple[threading.Thread, threading.Event]:
    acquired = threading.Event()

    def acquire() -> None:
        take()
        acquired.set()

    thread = threading.Thread(target=acquire, daemon=True)
    thread.start()
    return thread, acquired


def require_waiting(first: Any, second: Any) -> None:
    """The second lock is acquired once the first is released, and not before."""
    assert first.acquire()
    thread, acquired = acquire_in_a_thread(second.acquire)
    assert not acquired.wait(0.2)
    first.release()
    assert acquired.wait(PATIENCE_S)
    thread.join()
    second.release()


def test_a_second_holder_waits_for_the_first(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    require_waiting(first, second)
    second.release()  # releasing what is not held does nothing


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    lock = FileLock(tmp_path / "lock")
    thread, acquired = acquire_in_a_thread(lock.acquire)
    assert acquired.wait(PATIENCE_S)
    thread.join()
    lock.release()


def test_the_file_of_a_lock_is_not_executable(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    assert (tmp_path / "lock").stat().st_mode & 0o111 == 0


def test_a_folder_is_locked_for_one_and_free_after_its_release(tmp_path: Path) -> None:
    first, second = PathLock(tmp_path), PathLock(tmp_path)
    first.release()  # releasing what is not held does nothing
    assert first.acquire(wait=False)
    assert not second.acquire(wait=False)
    assert second.handle is None
    first.release()
    assert second.acquire(wait=False)
    assert not first.acquire(wait=False)
    second.release()
    assert first.acquire(wait=True)
    first.release()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as Windows imports it, on locks of this system that give up when they wait."""
    fcntl = pytest.importorskip("fcntl")

    def locking(handle: int, how: str, count: int) -> None:
        assert count == 1
        fcntl.flock(handle, fcntl.LOCK_UN if how == "unlock" else fcntl.LOCK_EX | fcntl.LOCK_NB)

    fake: Any = ModuleType("msvcrt")
    fake.locking, fake.LK_LOCK, fake.LK_NBLCK, fake.LK_UNLCK = locking, "wait", "now", "unlock"
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    spec = importlib.util.spec_from_file_location("windows_lock", file_lock.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)
        yield module


def test_on_windows_a_file_next_to_the_folder_is_locked_and_removed(
    tmp_path: Path, as_on_windows: Any
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    first, second = as_on_windows.PathLock(folder), as_on_windows.PathLock(folder)
    assert first.acquire(wait=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".run.lock"]
    assert not second.acquire(wait=False)
    assert list(folder.iterdir()) == []
    thread, acquired = acquire_in_a_thread(lambda: second.acquire(wait=True))
    assert not acquired.wait(0.2)
    as_on_windows._unlock(first.handle)
    assert acquired.wait(PATIENCE_S)
    thread.join()
    assert not as_on_windows.PathLock(folder).acquire(wait=False)
    second.release()
    first.release()
    path = tmp_path / "file"
    held = as_on_windows.lock_file(path)
    assert as_on_windows.lock_file(path) is None
    path.unlink()
    held.release()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not marked there")
def test_a_file_is_in_use_while_it_is_marked_and_open(tmp_path: Path) -> None:
    path = tmp_path / "pixels"
    assert not is_shared(path), "a file that is not there"
    path.write_bytes(b"x")
    assert not is_shared(path)
    with path.open("rb") as one, path.open("rb") as other:
        assert not is_shared(path)
        share(one)
        share(other)
        assert is_shared(path)
        one.close()
        assert is_shared(path)
    assert not is_shared(path)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def open_handles() -> int:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.usefixtures("without_locks")
def test_where_there_are_no_locks_nobody_holds_any(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    before = open_handles()
    for wait in (True, False):
        lock = PathLock(tmp_path)
        assert lock.acquire(wait=wait)
        assert lock.handle is None
        lock.release()
    with locked_folder(tmp_path) as is_locked:
        assert not is_locked
    with path.open("rb") as file:
        share(file)
    assert not is_shared(path)
    assert open_handles() == before


def test_no_handle_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    before = open_handles()
    first, second, on_file = PathLock(tmp_path), PathLock(tmp_path), FileLock(path)
    first.acquire(wait=True)
    second.acquire(wait=False)
    on_file.acquire()
    assert open_handles() == before + 2
    is_shared(path)
    assert open_handles() == before + 2
    for lock in (first, second, on_file):
        lock.release()

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file_lock, "_lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.acquire(wait=True)
    assert first.handle is None
    assert open_handles() == before


def test_a_locked_folder_is_waited_for_and_freed_even_after_an_error(tmp_path: Path) -> None:
    first, taken = PathLock(tmp_path), []

    def take() -> None:
        with locked_folder(tmp_path) as is_locked:
            taken.append(is_locked)
            assert not first.acquire(wait=False)

    first.acquire(wait=True)
    thread, acquired = acquire_in_a_thread(take)
    assert not acquired.wait(0.2)
    assert not taken
    first.release()
    assert acquired.wait(PATIENCE_S)
    thread.join()
    assert taken == [True]
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path):
        raise ZeroDivisionError
    assert first.acquire(wait=False)
    first.release()


def test_a_file_is_made_to_be_locked_and_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = lock_file(path)
    assert first is not None and path.exists()
    assert lock_file(path) is None
    path.unlink()
    # Whoever removes it lets others make it anew.
    second = lock_file(path)
    assert second is not None
    first.release()
    assert lock_file(path) is None
    second.release()


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "lock", open_handles()
    lock = file_lock._try_lock
    removed: list[int] = []

    def remove_first(handle: int) -> bool:
        if len(removed) < 2:
            path.unlink()
            removed.append(handle)
        return lock(handle)

    monkeypatch.setattr(file_lock, "_try_lock", remove_first)
    held = lock_file(path)
    assert held is not None and len(removed) == 2
    assert lock_file(path) is None, "what it holds is what others find"
    held.release()
    assert open_handles() == before


def test_a_file_that_cannot_be_written_may_be_in_use_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(b"x")
    opened: list[int] = []
    plain = os.open

    def recorded(path: Path, flags: int) -> int:
        opened.append(flags)
        return plain(path, flags)

    monkeypatch.setattr(os, "open", recorded)
    assert not is_shared(path)
    # Root may write to every file, so permissions alone would show nothing.
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK)
    with path.open("rb") as file:
        share(file)
        assert is_shared(path)
    assert not is_shared(path)
    assert opened == [os.O_RDWR, os.O_RDONLY, os.O_RDONLY]


def test_a_lock_that_cannot_be_given_back_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.acquire()

    def fail(handle: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(file_lock, "_unlock", fail)
    lock.release()
    assert lock.handle is None
    other = FileLock(tmp_path / "lock")
    thread, acquired = acquire_in_a_thread(other.acquire)
    assert acquired.wait(PATIENCE_S)
    thread.join()


def test_on_windows_no_file_is_marked_and_a_stand_in_in_use_stays(
    tmp_path: Path, as_on_windows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        as_on_windows.share(file)
        assert not is_shared(path)
        share(file)
        assert not as_on_windows.is_shared(path)
    lock = as_on_windows.PathLock(tmp_path)
    assert lock.acquire(wait=True)
    stand_in = tmp_path.with_name(f".{tmp_path.name}.lock")
    assert stand_in.stat().st_mode & 0o111 == 0

    def in_use(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", in_use)
    lock.release()
    monkeypatch.undo()
    stand_in.unlink()


def test_on_windows_a_lock_on_a_file_is_waited_for(tmp_path: Path, as_on_windows: Any) -> None:
    first = as_on_windows.FileLock(tmp_path / "lock")
    second = as_on_windows.FileLock(tmp_path / "lock")
    require_waiting(first, second)
