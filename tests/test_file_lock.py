import subprocess
import sys
import threading
from pathlib import Path

import pytest

from glasshouse.file_lock import FileLock, FolderLock, is_shared, share

PATIENCE_S = 600
HOLDER = """
import sys, time
from pathlib import Path
from glasshouse.file_lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def acquire_in_a_thread(lock: FileLock) -> tuple[threading.Thread, threading.Event]:
    acquired = threading.Event()

    def acquire() -> None:
        lock.acquire()
        acquired.set()

    thread = threading.Thread(target=acquire, daemon=True)
    thread.start()
    return thread, acquired


def test_a_second_holder_waits_for_the_first(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    thread, acquired = acquire_in_a_thread(second)
    assert not acquired.wait(0.2)
    first.release()
    assert acquired.wait(PATIENCE_S)
    thread.join()
    second.release()
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
    thread, acquired = acquire_in_a_thread(lock)
    assert acquired.wait(PATIENCE_S)
    thread.join()
    lock.release()


def test_the_file_of_a_lock_is_not_executable(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    assert (tmp_path / "lock").stat().st_mode & 0o111 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_folder_is_locked_for_one_and_free_after_its_release(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
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
