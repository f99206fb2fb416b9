"""A lock on a file that the operating system releases when its holder dies."""

import os
import sys
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

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


class FileLock:
    """The two methods that Optuna expects of a lock.

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

    def release(self) -> None:
        """Give the lock back, if this object holds it."""
        if self.handle is not None:
            _unlock(self.handle)
            os.close(self.handle)
            self.handle = None
