"""The folder that a piece of work leaves: in its place on a shared disk, else sent back."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from glasshouse.errors import ProcessError
from glasshouse.file_lock import PathLock
from glasshouse.storage import incoming_folder, replace_folder, restore_folder, write_bytes

Files = Mapping[str, bytes]

# The process of a lost node may live on for a while; it then still writes.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Parcel:
    """Where the files of a piece belong, and what it starts with.

    marker: a file of the command that hands out the pieces. A machine that finds the same text in
    it shares the disk. files: those that are in the folder already, for machines that do not.
    """

    folder: Path
    marker: Path
    text: str
    files: Files = field(default_factory=dict)

    def is_shared(self) -> bool:
        """Whether this machine sees the disk that the folder is on."""
        try:
            return self.marker.read_text(encoding="utf-8") == self.text
        except (OSError, ValueError):
            return False


@contextmanager
def marked(folder: Path) -> Iterator[tuple[Path, str]]:
    """A marker next to a folder, and its text."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", prefix=".glasshouse-", dir=folder.resolve().parent, encoding="utf-8"
    ) as file:
        text = secrets.token_hex()
        file.write(text)
        file.flush()
        yield Path(file.name), text


@contextmanager
def unpacked(parcel: Parcel) -> Iterator[Path]:
    """The folder to work in: that of the parcel on a shared disk, else a temporary one.

    Raises ProcessError where another process keeps working in it.
    """
    if parcel.is_shared():
        _wait_until_free(parcel.folder)
        yield parcel.folder
        return
    with tempfile.TemporaryDirectory(prefix="glasshouse-") as place:
        folder = Path(place) / parcel.folder.name
        write_files(parcel.files, folder)
        yield folder


def files_to_send(parcel: Parcel, folder: Path) -> Files | None:
    """What is in the folder that a piece has worked in; None where that is its place."""
    return None if parcel.is_shared() else read_files(folder)


def read_files(folder: Path) -> Files:
    """The bytes of all files below a folder by their path in it; empty where there is none."""
    restore_folder(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(files: Files, folder: Path) -> None:
    """Write files below a folder, which is made if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)


def put_in_place(files: Files, folder: Path) -> None:
    """Put what a piece has sent back in the place of its folder: all of it, or nothing."""
    restore_folder(folder)
    incoming = incoming_folder(folder)
    shutil.rmtree(incoming, ignore_errors=True)
    write_files(files, incoming)
    replace_folder(folder)


def _wait_until_free(folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while folder.is_dir():
        lock = PathLock(folder)
        if lock.acquire(wait=False):
            lock.release()
            return
        if time.monotonic() > deadline:
            raise ProcessError(
                f"another process has been working in {folder} for {_PATIENCE_S:.0f} s: wait until "
                "it has ended, or stop it, and repeat the command, which resumes"
            )
        time.sleep(0.5)
