"""Locks on files and folders that the operating system releases when their holder dies."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        while not _try_lock(handle, msvcrt.LK_LOCK):
            pass  # it gives up after ten seconds; we wait for as long as it takes

    def _try_lock(handle: int, how: int = msvcrt.LK_NBLCK) -> bool:
        try:
            msvcrt.locking(handle, how, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

    def _open_for_lock(path: Path) -> int:
        # No folder can be opened there, so a file next to it is locked in its place.
        return os.open(_stand_in(path), os.O_RDWR | os.O_CREAT, 0o666)

    def _is_at(path: Path, handle: int) -> bool:
        return path.exists()  # what is locked is its stand-in

    def _close_lock(handle: int, path: Path) -> None:
        os.close(handle)
        # Fails while somebody else has it open, who then removes it.
        with contextlib.suppress(OSError):
            _stand_in(path).unlink()

    def _stand_in(path: Path) -> Path:
        whole = path.resolve()
        return whole.with_name(f".{whole.name}.lock")
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)

    def _open_for_lock(path: Path) -> int:
        # For writing, if allowed: some network file systems lock a file exclusively only then.
        may_write = not path.is_dir() and os.access(path, os.W_OK)
        return os.open(path, os.O_RDWR if may_write else os.O_RDONLY)

    def _is_at(path: Path, handle: int) -> bool:
        try:
            return os.path.samestat(path.stat(), os.fstat(handle))
        except OSError:  # it is gone, perhaps by another machine
            return False

    def _close_lock(handle: int, path: Path) -> None:
        # The last handle that is closed releases the lock.
        os.close(handle)


class FileLock:
    """A lock with the two methods that Optuna expects.

    Optuna's own locks are files that stay behind when a process is killed, and hold up the next
    one for half a minute or more.
    """

    def __init__(self, path: Path) -> None:
        """path: a file next to the one that is protected, created if necessary."""
        self.path = path
        self.handle: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        _lock(handle)
        self.handle = handle
        return True

    def release(self) -> None:
        """Give the lock back, if this object holds it."""
        if self.handle is not None:
            # Closing releases it as well, also where there are no locks.
            with contextlib.suppress(OSError):
                _unlock(self.handle)
            os.close(self.handle)
            self.handle = None


class PathLock:
    """A lock on a folder or file itself, which leaves nothing behind.

    On Windows, it is on a file next to that.
    """

    def __init__(self, path: Path) -> None:
        """path: exists when the lock is taken."""
        self.path = path
        self.handle: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; False if it is held by somebody else and should not be waited for.

        Where the file system has no such locks, nobody holds any.
        """
        handle = _open_for_lock(self.path)
        taken = False
        try:
            if wait:
                _lock(handle)
            elif not _try_lock(handle):
                return False
            taken = True
        except OSError:
            return True
        finally:
            if not taken:
                os.close(handle)
        self.handle = handle
        return True

    def release(self) -> None:
        """Give the lock back, if this object holds it."""
        if self.handle is not None:
            _close_lock(self.handle, self.path)
            self.handle = None


def share(file: IO[bytes]) -> None:
    """Mark an open file as in use until it and every memory map of it is closed.

    A map keeps a handle of its own on what was opened, and the lock belongs to that. Does nothing
    where there are no locks: on Windows, a file that is open cannot be removed anyway.
    """
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_shared(path: Path) -> bool:
    """Whether any process, this one included, has marked a file as in use."""
    if sys.platform == "win32":
        return False
    try:
        handle = _open_for_lock(path)
    except OSError:
        return False
    try:
        return not _try_lock(handle)
    except OSError:
        return False
    finally:
        os.close(handle)


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, waiting for it; yields False where there are no locks."""
    lock = PathLock(folder)
    lock.acquire(wait=True)
    try:
        yield lock.handle is not None
    finally:
        lock.release()


def lock_file(path: Path) -> PathLock | None:
    """The lock of a file, made if necessary, that its holders may remove; None if others hold it.

    Its handle is None where there are no locks.
    """
    lock = PathLock(path)
    while True:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        # Whoever held it may have removed it: a lock on that keeps nobody out.
        with contextlib.suppress(FileNotFoundError):
            if not lock.acquire(wait=False):
                return None
            if lock.handle is None or _is_at(path, lock.handle):
                return lock
        lock.release()
