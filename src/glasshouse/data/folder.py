"""A folder of class folders, with or without train, validation and test folders around them."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glasshouse.data.files import FileListing, Part
from glasshouse.errors import DataError

_PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# What someone meant as an image; the content decides whether it is one, and is named if not.
_IMAGE_ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".bmp",
    ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".heic",
    ".heif", ".psd", ".tga", ".ico", ".cur", ".sgi", ".svg", ".raw", ".dng",
}  # fmt: skip


def list_folder(root: Path) -> FileListing:
    """The images below a folder; ids are paths inside it, with forward slashes.

    Images deeper inside a class folder belong to the class. Hidden files and files without an
    image's ending are left out, and the latter counted. Raises DataError for a folder without
    classes, with one class, or with a class that a part lacks.
    """
    parts = _part_folders(root)
    folders = parts or [(root, None)]
    found = [
        (path, part, class_folder.name)
        for folder, part in folders
        for class_folder in _visible_folders(folder)
        for path in _files(class_folder)
    ]
    images = [row for row in found if row[0].suffix.lower() in _IMAGE_ENDINGS]
    class_names = sorted({f.name for folder, _ in folders for f in _visible_folders(folder)})
    if not class_names or not images:
        raise DataError(_nothing(root))
    labels = [class_names.index(name) for _, _, name in images]
    return FileListing(
        origin=root,
        paths=tuple(path for path, _, _ in images),
        ids=np.array([path.relative_to(root).as_posix() for path, _, _ in images]),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple(class_names),
        parts=tuple(part for _, part, _ in images if part) if parts else None,
        notes=_notes(len(found) - len(images)),
    )


def _part_folders(root: Path) -> list[tuple[Path, Part | None]]:
    """The folders of the parts, where all folders are such; else none."""
    folders = _visible_folders(root)
    if not all(folder.name.lower() in _PART_NAMES for folder in folders):
        return []
    return [(folder, _PART_NAMES[folder.name.lower()]) for folder in folders]


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not _is_hidden(f.name))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _files(folder: Path) -> Iterator[Path]:
    for place, subfolders, names in os.walk(folder):
        # Changed in place: this is how os.walk is told where to go on, and in which order.
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        yield from (Path(place) / name for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _notes(ignored: int) -> tuple[str, ...]:
    if not ignored:
        return ()
    return (f"{ignored} file{'s' * (ignored != 1)} without an image's ending were ignored.",)


def _nothing(root: Path) -> str:
    loose = sum(1 for f in root.iterdir() if f.suffix.lower() in _IMAGE_ENDINGS)
    beside = f" {loose} images lie in it directly; move them to folders." if loose else ""
    return (
        f"{root} has no class folders with images. Expected a folder for each class, as in "
        f"{root.name}/cat/1.jpg, or {root.name}/train/cat/1.jpg.{beside}"
    )
