"""Locks on files and folders that the operating system releases when their holder dies."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
            except OSError:
                continue  # it gives up after ten seconds; we wait for as long as it takes
            return

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # some network file systems have no locks, and must not stop anybody
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


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
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT)
        _lock(handle)
        self.handle = handle
        return True

    def acquire_now(self) -> bool:
        """Take the lock if nobody holds it; False if somebody does."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT)
        if not _try_lock(handle):
            os.close(handle)
            return False
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, waiting for it; where there are no locks, go on without one."""
    lock = FileLock(path)
    try:
        with contextlib.suppress(OSError):
            lock.acquire()
        yield
    finally:
        lock.release()
