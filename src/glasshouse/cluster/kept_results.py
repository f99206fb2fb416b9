"""Results of pieces that are kept until their command has ended, for one that is repeated."""

import contextlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glasshouse.cluster.pieces import Outcome
from glasshouse.errors import StorageError
from glasshouse.file_lock import PathLock
from glasshouse.storage import cache_folder, sha256_of_bytes, write_bytes, write_json


@dataclass(frozen=True)
class KeptResults:
    """What pieces have left, each in a file of a folder.

    name_of: names a piece, given its arguments, by everything that its result depends on.
    """

    folder: Path
    name_of: Callable[..., str]

    def find(self, piece: tuple[Any, ...]) -> Outcome | None:
        """What was kept of a piece; None where that is nothing, or damaged."""
        try:
            found = pickle.loads(self._place(piece).read_bytes())
        except Exception:  # damaged bytes lead to errors of any class
            return None
        return found if isinstance(found, Outcome) else None

    def keep(self, piece: tuple[Any, ...], outcome: Outcome) -> None:
        """Keep what a piece has left, unless the disk is full: the command can do without."""
        with contextlib.suppress(StorageError):
            write_bytes(self._place(piece), pickle.dumps(outcome))

    def _place(self, piece: tuple[Any, ...]) -> Path:
        return self.folder / self.name_of(*piece)


@contextmanager
def kept_results(
    command: str, key: str, name_of: Callable[..., str]
) -> Iterator[KeptResults | None]:
    """Where the results of a command are kept until the block ends without an error.

    command: as its user knows it. key: everything that all results depend on. name_of: as in
    `KeptResults`. None where nothing can be kept, because the same command is running or the cache
    cannot be written.
    """
    folder = cache_folder() / "results" / sha256_of_bytes(key.encode())[:32]
    lock = PathLock(folder)
    kept = None
    with contextlib.suppress(OSError, StorageError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(folder) and lock.acquire(wait=False):
            write_json(folder / "command.json", {"source": command})
            kept = KeptResults(folder, name_of)
    try:
        yield kept
        if kept is not None:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _is_private(folder: Path) -> bool:
    """Whether nobody else can write to a folder, from which objects with code are read."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
