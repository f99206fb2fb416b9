"""Atomic writes, common file formats, and the folders for caches and data sets."""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from glasshouse.errors import StorageError

# How a file is called until it is whole: its name, the process and the thread.
TEMPORARY = re.compile(r"\..+\.\d+-\d+")
# What is added to the name of a folder while another takes its place.
_REPLACED = ".replaced"

if TYPE_CHECKING:  # torch takes seconds to import, and most commands that touch files need none
    from numpy.typing import NDArray
    from torch import Tensor


_METADATA_KEY = "glasshouse"
# Windows knows no quota.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def cache_folder() -> Path:
    """The folder of decoded images and features; ``GLASSHOUSE_CACHE`` overrides it."""
    return Path(os.environ.get("GLASSHOUSE_CACHE") or platformdirs.user_cache_dir("glasshouse"))


def data_folder() -> Path:
    """The folder that data sets are downloaded to; ``GLASSHOUSE_DATA`` overrides it."""
    return Path(os.environ.get("GLASSHOUSE_DATA") or platformdirs.user_data_dir("glasshouse"))


def as_path(place: str | Path | None) -> Path | None:
    """A place that may be named by a string."""
    return None if place is None else Path(place)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader, or a crash, sees either the old or the new bytes.

    Raises StorageError, with the free space, when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of this thread alone: two that write the same file must not share a temporary one.
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                # Otherwise a power failure could leave the new name with no content.
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            # Removing it may fail for the same reason, which must not hide the first error.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(_cannot_write(path, error)) from error


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left below a folder in which nobody writes now."""
    for path in folder.rglob(".*"):
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def incoming_folder(folder: Path) -> Path:
    """Where the files of a folder are written until `replace_folder` puts them in its place."""
    return _beside(folder, ".incoming")


def replace_folder(folder: Path) -> None:
    """Put its incoming folder, which is whole, in the place of a folder that may exist.

    Whatever ends this process, either of them is there, or `restore_folder` brings one back.
    """
    old, whole = _beside(folder, _REPLACED), folder.resolve()
    shutil.rmtree(old, ignore_errors=True)
    if whole.exists():
        whole.rename(old)
    incoming_folder(folder).rename(whole)
    # Otherwise a power failure could leave neither.
    _sync_folder(whole.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Finish the replacement of a folder, or of one in it, by a process that was killed."""
    for old in (_beside(folder, _REPLACED), *folder.glob(f".*{_REPLACED}")):
        # Two processes may do the same: what one has moved, the other does not find.
        with contextlib.suppress(OSError):
            if old.is_dir():
                _restore(old, old.with_name(old.name[1:].removesuffix(_REPLACED)))


def _beside(folder: Path, ending: str) -> Path:
    whole = folder.resolve()
    return whole.parent / f".{whole.name}{ending}"


def _restore(old: Path, folder: Path) -> None:
    if not folder.exists():
        # It was set aside once the other was whole.
        incoming = incoming_folder(folder)
        (incoming if incoming.is_dir() else old).rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically.

    What UTF-8 cannot hold, from the name of a file for example, is written as an escape, which JSON
    reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: object) -> None:
    """Write one JSON document, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON document; raises StorageError when it is missing or damaged."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is damaged: {error}") from error


def read_text(path: Path) -> str:
    """Read UTF-8 text; raises StorageError when it is missing or damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}") from error


def text_encoding(path: Path) -> str:
    """UTF-8 as spreadsheets and editors write it, or UTF-16 or UTF-32 where a mark says so.

    For text of the user's own; raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
    # UTF-32's little-endian mark begins with that of UTF-16.
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def require_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise StorageError where the disk of a folder has less room than what is to be written."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{what} needs {needed / 1e6:,.1f} MB, but {folder} has {free / 1e6:,.1f} MB free. "
            "Free some space (`glasshouse cache --prune 30d`), or name another folder with "
            f"{_setting_of(folder)}."
        )


def mark_used(path: Path) -> None:
    """Set the time of a cache file to now, so that it is known when it was last used."""
    # A cache that cannot be written to can still be read.
    with contextlib.suppress(OSError):
        os.utime(path)


def write_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named tensors as one safetensors file, atomically."""
    write_bytes(path, tensors_to_bytes(tensors, metadata))


def tensors_to_bytes(
    tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Named tensors and JSON metadata as safetensors; equal contents give equal bytes."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # The library writes metadata keys in no fixed order, so there is only one.
    text = json.dumps(metadata or {}, sort_keys=True, allow_nan=False)
    return save(whole, {_METADATA_KEY: text})


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The tensors and the metadata of a safetensors file.

    Raises StorageError when it is missing or damaged.
    """
    with _opened_tensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        return tensors, _metadata_of(file)


def read_tensor_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file, without its tensors; raises as `read_tensors` does."""
    with _opened_tensors(path) as file:
        return _metadata_of(file)


def _metadata_of(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    return found


@contextlib.contextmanager
def _opened_tensors(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist") from error
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise StorageError(f"{path} is damaged or not a safetensors file: {error}") from error


def read_array(path: Path) -> "NDArray[Any]":
    """The array of a .npy file; raises OSError, or ValueError for a damaged file."""
    import numpy as np

    # Mapped first: this compares the size that the header declares with that of the file, where
    # reading would begin by allocating it. Nor does it open archives and pickles, as np.load may.
    return np.array(np.lib.format.open_memmap(path, mode="r"))


def sha256_of_bytes(data: bytes) -> str:
    """The SHA-256 of the bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    # A rename survives a power failure only once its folder is synced; Windows cannot open folders.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_advice(path: Path, error: OSError) -> str:
    """What to do where a file could not be written; only a full disk is to be freed."""
    other = f"ame another folder with {_setting_of(path)}"
    return f"Free some space, or n{other}" if error.errno in _FULL else f"N{other}"


def _cannot_write(path: Path, error: OSError) -> str:
    free = ""
    if error.errno in _FULL:
        with contextlib.suppress(OSError):
            existing = next(folder for folder in path.absolute().parents if folder.exists())
            free = f" ({shutil.disk_usage(existing).free / 1e6:,.1f} MB free)"
    advice = write_advice(path, error)
    return f"cannot write {path}: {error.strerror}{free}. {advice}; files written before are kept."


def _setting_of(path: Path) -> str:
    """What decides the folder that a file is written to."""
    folders = {"GLASSHOUSE_CACHE": cache_folder(), "GLASSHOUSE_DATA": data_folder()}
    # The deepest first: one of them may be inside the other.
    for name in sorted(folders, key=lambda name: -len(folders[name].absolute().parts)):
        if path.absolute().is_relative_to(folders[name].absolute()):
            return name
    return "--out"
