"""A folder of class folders, optionally inside train, validation and test folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.errors import DataError
from glasshouse.wording import pluralize

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# Files with these endings are meant as images: those that cannot be read are reported.
_IMAGE_ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".bmp",
    ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".heic",
    ".heif", ".psd", ".tga", ".ico", ".cur", ".sgi", ".svg", ".raw", ".dng",
}  # fmt: skip


def list_folder(root: Path) -> FileListing:
    """List the images below a folder; ids are relative paths with forward slashes.

    Images in subfolders of a class folder belong to the class. Hidden files are skipped, as are
    files without the extension of an image, which are counted in a note. Raises DataError for a
    folder without class folders or images.
    """
    split_folders = _split_folders(root)
    folders = split_folders or [(root, None)]
    found = [
        (path, split, class_folder.name)
        for folder, split in folders
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
        given_splits=tuple(s for _, s, _ in images if s) if split_folders else None,
        notes=_notes(len(found) - len(images)),
    )


def _split_folders(root: Path) -> list[tuple[Path, SplitName | None]]:
    """The folders of the splits if all folders are named so; else none."""
    folders = _visible_folders(root)
    if not all(folder.name.lower() in SPLIT_FOLDERS for folder in folders):
        return []
    return [(folder, SPLIT_FOLDERS[folder.name.lower()]) for folder in folders]


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not _is_hidden(f.name))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def image_files(folder: Path) -> Iterator[Path]:
    """The visible files below a folder that have the extension of an image, in order."""
    return (path for path in _files(folder) if path.suffix.lower() in _IMAGE_ENDINGS)


def _files(folder: Path) -> Iterator[Path]:
    for place, subfolders, names in os.walk(folder):
        # Changed in place: os.walk reads from this list which folders to visit, and in which order.
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        yield from (Path(place) / name for name in sorted(names) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _notes(ignored: int) -> tuple[str, ...]:
    if not ignored:
        return ()
    verb = "was" if ignored == 1 else "were"
    return (f"{pluralize(ignored, 'file')} without the extension of an image {verb} ignored.",)


def _nothing(root: Path) -> str:
    loose = sum(1 for f in root.iterdir() if f.suffix.lower() in _IMAGE_ENDINGS)
    hint = f" {loose} images are directly in it; move them to class folders." if loose else ""
    return (
        f"{root} has no class folders with images. Expected one folder per class, as in "
        f"{root.name}/cat/1.jpg, or {root.name}/train/cat/1.jpg.{hint}"
    )
