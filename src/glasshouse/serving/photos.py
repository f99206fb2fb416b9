"""Uploaded photos: decoded with care, and kept for a while so that a page can be reloaded."""

import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from glasshouse.data.decode import Pixels, decode
from glasshouse.data.fitting import Fitting
from glasshouse.data.headers import describe_losses, losses_of
from glasshouse.data.workers import decode_files
from glasshouse.errors import BadImage
from glasshouse.serving.workbench import Workbench

_MOST_KEPT, _MOST_BYTES = 32, 256 << 20


@dataclass(frozen=True)
class Photo:
    """A decoded image ``(h, w, 3)``; is_ready: it already has a network's input size.

    warning: what may make an answer about it wrong; empty where there is nothing.
    """

    name: str
    pixels: Pixels
    is_ready: bool = False
    class_name: str = ""
    warning: str = ""


@dataclass
class PhotoStore:
    """The last uploaded files, in memory only: nothing of them is left when the workbench ends.

    Kept as files and not decoded, since the pixels of a photo take ten times the memory. Safe to
    call from several threads.
    """

    _files: "OrderedDict[str, tuple[str, bytes]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, name: str, data: bytes) -> str:
        """Keep a file; returns its id, which cannot be guessed. The oldest files make room."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._files[key] = (name, data)
            while len(self._files) > _MOST_KEPT or self._bytes() > _MOST_BYTES:
                self._files.popitem(last=False)
        return key

    def photo(self, key: str) -> Photo | None:
        """The photo with this id; None where it is no longer kept."""
        with self._lock:
            found = self._files.get(key)
            if found is None:
                return None
            self._files.move_to_end(key)
        return _decoded(*found)

    def _bytes(self) -> int:
        return sum(len(data) for _, data in self._files.values())


@cache
def photo_store_of(workbench: Workbench) -> PhotoStore:
    """The one store of a workbench."""
    return PhotoStore()


def read_photo(data: bytes, name: str) -> Photo:
    """An uploaded file, decoded; raises BadImage."""
    (reason,) = reasons_against([data])
    if reason:
        raise BadImage(name, reason)
    return _decoded(name, data)


def _decoded(name: str, data: bytes) -> Photo:
    pixels = decode(data, name=name)
    return Photo(name, pixels, warning=" ".join(describe_losses([(name, losses_of(data, name))])))


def reasons_against(files: Sequence[bytes]) -> list[str]:
    """Why each file is not an image that can be read; empty where it is one.

    A separate process reads them, so that a file that crashes or hangs its decoder ends only that
    process.
    """
    with tempfile.TemporaryDirectory(prefix="glasshouse-") as folder:
        paths = [Path(folder) / f"image-{number}" for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        found = list(decode_files(paths, Fitting(8, 8, "stretch"), workers=1))
    reasons = {each.position: "" if each.pixels else each.reason for each in found}
    return [reasons[number] for number in range(len(files))]
