"""Run folders held by the process that trains into them, so that two never write into one."""

import contextlib
import itertools
from pathlib import Path

from glasshouse.errors import StorageError, UsageError
from glasshouse.file_lock import PathLock
from glasshouse.runs.failure import record_failure
from glasshouse.storage import restore_folder

# Those of this process. The system releases the locks when it ends, however it ends.
_held: dict[Path, PathLock] = {}


def hold(folder: Path) -> None:
    """Make a run folder if necessary and hold it until `release` or the end of this process.

    What this process holds already stays held. Raises UsageError when another process holds it.
    """
    if folder.resolve() in _held:
        return
    restore_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the run folder {folder}: {error.strerror}") from error
    lock = PathLock(folder.resolve())
    if not lock.acquire(wait=False):
        raise _in_use(folder)
    _held[lock.path] = lock


def release(folder: Path, error: BaseException | None = None) -> None:
    """Let others train into a folder; one that is still empty is removed.

    error: what ended the training, for those who look at the run later.
    """
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        if error is not None:
            record_failure(folder, error)
        remove_if_empty(folder)
        lock.release()


def hand_over(folder: Path) -> None:
    """Let another process train into a folder in place of this one; an empty one keeps its name."""
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        lock.release()


def remove_if_empty(folder: Path) -> None:
    """Remove a folder into which nothing was trained."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def require_not_held(folder: Path) -> None:
    """Raise UsageError when another process trains into a folder; nothing is made or held.

    A folder that was being replaced when its process was killed is in its place again.
    """
    restore_folder(folder)
    if folder.resolve() in _held or not folder.is_dir():
        return
    lock = PathLock(folder)
    if not lock.acquire(wait=False):
        raise _in_use(folder)
    lock.release()


def hold_new_folder(parent: Path, name: str) -> Path:
    """Make and hold name-1, name-2 and so on: the first that nobody else has made."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / f"{name}-{number}"
        # Making a folder fails for all but one of several processes.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            hold(folder)
            return folder
    raise AssertionError("unreachable")


def _in_use(folder: Path) -> UsageError:
    return UsageError(
        f"another process is training into {folder}: wait until it has ended, stop it, or name "
        "another folder with --out"
    )
