"""CIFAR-10 from the official python batches, checked against the published digests.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". 50,000 training
and 10,000 test images of 32x32 pixels.
"""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.download import download
from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError, type_words
from glasshouse.progress import Progress
from glasshouse.storage import data_folder, write_bytes

FOLDER = "cifar-10-batches-py"
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
# A batch has 31 MB; an archive that claims more is not unpacked into memory.
_MAX_MEMBER_BYTES = 64 << 20
_IMAGE_BYTES = 3 * 32 * 32
CHECKSUMS: Mapping[str, str] = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
# All names that the batches need; a pickle could otherwise call any function.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("_codecs", "encode"): ("_codecs", "encode"),
}


def find_cifar(
    data_dir: Path | None = None, *, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The folder of the batches: in data_dir, else in the data folder, else downloaded to it.

    Raises DataError that names the searched folders when offline or when the download fails.
    """
    places = list(dict.fromkeys([*([data_dir] if data_dir else []), data_folder()]))
    for place in places:
        for folder in (place, place / FOLDER):
            if (folder / "data_batch_1").is_file():
                return folder
    if offline:
        raise DataError(_not_found(places))
    try:
        return fetch_cifar(places[0], progress=progress)
    except DataError as error:
        raise DataError(f"{error}\n{_not_found(places)}") from error


def fetch_cifar(
    place: Path,
    *,
    address: str = ADDRESS,
    md5: str = ARCHIVE_MD5,
    checksums: Mapping[str, str] = CHECKSUMS,
    progress: Progress | None = None,
) -> Path:
    """Download and unpack the batches below place; an interrupted download is resumed."""
    archive = download(address, place / Path(address).name, md5=md5, progress=progress)
    _unpack(archive, place / FOLDER, checksums)
    archive.unlink()
    return place / FOLDER


def read_cifar(folder: Path, checksums: Mapping[str, str] = CHECKSUMS) -> tuple[ImageSet, ImageSet]:
    """The training and test images, with ids such as "train/00042" and "test/00007".

    Raises DataError that names the batch that is missing, truncated or changed.
    """
    names = _class_names(folder, checksums)
    batches = [name for name in checksums if name.startswith("data_batch")]
    return (
        _read_batches(folder, "train", batches, checksums, names),
        _read_batches(folder, "test", ["test_batch"], checksums, names),
    )


def _read_batches(
    folder: Path,
    split: str,
    batches: list[str],
    checksums: Mapping[str, str],
    class_names: tuple[str, ...],
) -> ImageSet:
    parts = [_read_batch(folder / name, checksums[name], len(class_names)) for name in batches]
    labels = np.concatenate([labels for _, labels in parts])
    ids = np.array([f"{split}/{number:05d}" for number in range(len(labels))])
    return ImageSet(np.concatenate([rows for rows, _ in parts]), labels, ids, class_names)


def _read_batch(
    path: Path, md5: str, class_count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = _read_pickle(path, md5)
    rows: Any = content.get(b"data")
    labels: Any = content.get(b"labels")
    is_whole = (
        isinstance(rows, np.ndarray)
        and isinstance(labels, list)
        and rows.dtype == np.uint8
        and rows.shape == (len(labels), _IMAGE_BYTES)
        and all(isinstance(label, int) and 0 <= label < class_count for label in labels)
    )
    if not is_whole:
        raise DataError(
            f"{path} is not a CIFAR batch: expected rows of 3,072 bytes and a label for each"
        )
    return rows.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


def _class_names(folder: Path, checksums: Mapping[str, str]) -> tuple[str, ...]:
    content = _read_pickle(folder / "batches.meta", checksums["batches.meta"])
    return tuple(name.decode() for name in content[b"label_names"])


def _read_pickle(path: Path, md5: str) -> dict[bytes, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the CIFAR batch {path}: {error.strerror}") from error
    _check(path, data, md5)
    try:
        content = _Batches(io.BytesIO(data), encoding="bytes").load()
    # A damaged pickle can raise any error.
    except Exception as error:
        raise DataError(f"{path} is not a CIFAR batch: {error}") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a CIFAR batch: expected a dict, received {type_words(content)}"
        )
    return content


def _check(path: Path, data: bytes, md5: str) -> None:
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} is truncated or changed ({len(data):,} bytes, md5 {found}, expected {md5}). "
            "Delete it to have it downloaded again."
        )


class _Batches(pickle.Unpickler):
    """Loads arrays and plain values, and refuses every other name in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it imports {module}.{name}, which no batch needs")
        return super().find_class(*_ALLOWED[module, name])


def _unpack(archive: Path, folder: Path, checksums: Mapping[str, str]) -> None:
    """Extract known members only, so that no path in the archive decides where a file is put."""
    try:
        with tarfile.open(archive) as tar:
            for name, md5 in checksums.items():
                member = tar.extractfile(f"{FOLDER}/{name}")
                data = member.read(_MAX_MEMBER_BYTES) if member else b""
                _check(archive / name, data, md5)
                write_bytes(folder / name, data)
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise DataError(f"cannot unpack {archive}: {error}. Delete it and try again.") from error


def _not_found(places: list[Path]) -> str:
    looked = " and ".join(str(place / FOLDER) for place in places)
    return (
        f"CIFAR-10 was not found: looked for the python batches in {looked}. Put them there, name "
        "their folder with --data-dir or GLASSHOUSE_DATA, or use a source that needs no download: "
        "digits or shapes."
    )
