"""A folder of class folders, optionally inside train, validation and test folders."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from glasshouse.data.class_names import list_classes
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.errors import DataError
from glasshouse.wording import first_of, listed, pluralize, readable_name

SPLIT_FOLDERS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "train_set", "training_set", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("val_set", "validation_set", "valset"), "validation"),
    **dict.fromkeys(("test", "testing", "test_set", "testing_set", "testset"), "test"),
}
_LETTERS = re.compile(r"[a-z]+")
# Files with these endings are meant as images: those that cannot be read are reported.
_IMAGE_ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".bmp",
    ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".heic",
    ".heif", ".hif", ".psd", ".tga", ".ico", ".cur", ".sgi", ".svg", ".raw", ".dng",
}  # fmt: skip
# Made by the indexing of some file managers and storage devices; small copies of the images.
_THUMBNAILS = ("@eaDir", ".thumbnails", ".@__thumb")
# Files of which one says that a folder holds results of ours, all of them in a set.
_RESULTS = (
    {"recipe.toml", "environment.json"}, {"page.json", "images.npy"}, {"seeds.json"},
    {"ladder.json"}, {"tune.json"},
)  # fmt: skip
# Made by operating systems on every drive that somebody puts images on.
_OF_SYSTEMS = (
    "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information",
    "lost+found",
)  # fmt: skip
_SHOWN = 5


@dataclass
class _LeftOut:
    """What is not taken from a folder, by the sentence that says so; names relative to the root."""

    root: Path
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, sentence: str, path: Path, detail: str = "") -> None:
        """sentence: with a place for the count, which ends in a verb for one and for several."""
        self.names.setdefault(sentence, []).append(
            f"{readable_name(str(path.relative_to(self.root)))}{detail}"
        )

    def notes(self) -> tuple[str, ...]:
        return tuple(_note(sentence, names) for sentence, names in self.names.items())


_NO_EXTENSION = "file without the extension of an image {was} ignored"
_LOOSE = "image next to the class folders {was} left out"
_THUMBNAIL = "folder of thumbnails {was} left out"
_LINK = "link to a folder {was} not followed"
_RUN = "folder with results of Glasshouse {is} no class"
_OTHER = "folder next to the splits {was} left out"
_UNLABELLED = "split without class folders {was} left out"


def list_folder(root: Path) -> FileListing:
    """List the images below a folder; ids are relative paths with forward slashes.

    Images in subfolders of a class folder belong to the class. Hidden files and results of runs
    are skipped; everything else that is left out is counted and named in the notes. Raises
    DataError for a folder without class folders or images, for one that cannot be read, and where
    it is unclear whether folders are splits or classes.
    """
    left = _LeftOut(root)
    start = _start(root)
    folders, has_splits = _split_folders(start, left)
    used = [folder for folder, _ in folders]
    for folder in dict.fromkeys((root, start, *used)):
        _note_loose(folder, left)
        if folder not in used:
            _visible_folders(folder, left)
    images: list[tuple[Path, SplitName | None, str]] = []
    empty: list[str] = []
    inner: dict[str, set[str]] = {}
    for folder, split in folders:
        for class_folder in _visible_folders(folder, left):
            label = readable_name(class_folder.name)
            found = list(_images(class_folder, left))
            _require_no_splits(class_folder)
            images += [(path, split, label) for path in found]
            inner.setdefault(label, set()).update(_inner(path, class_folder) for path in found)
            if not found and not _holds_results(class_folder):
                empty.append(label)
    if not images:
        raise DataError(_nothing(root))
    classes = list_classes([label for _, _, label in images], empty)
    left_out = left.notes()
    return FileListing(
        origin=root,
        paths=tuple(path for path, _, _ in images),
        ids=np.array([readable_name(path.relative_to(root).as_posix()) for path, _, _ in images]),
        targets=classes.labels,
        class_names=classes.names,
        given_splits=tuple(s for _, s, _ in images if s) if has_splits else None,
        notes=(*left_out, *classes.notes, *_alike(inner, root), *like_splits(classes.names)),
        left_out=left_out,
    )


def like_splits(names: Iterable[str]) -> Iterator[str]:
    """A note where classes are named like a training split and another, such as seg_test."""
    found = {
        name: {
            SPLIT_FOLDERS[word] for word in _LETTERS.findall(name.lower()) if word in SPLIT_FOLDERS
        }
        for name in names
    }
    splits = set[SplitName]().union(*found.values())
    if "train" in splits and len(splits) > 1:
        yield (
            f"The classes {listed([name for name, words in found.items() if words][:_SHOWN])} are "
            "named like splits. If they are, name them train, val and test."
        )


def image_files(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """The visible files below a folder that have the extension of an image, in order.

    Also sentences on what is left out. Raises DataError for a folder that cannot be read.
    """
    left = _LeftOut(folder)
    return tuple(_images(folder, left)), left.notes()


def _inner(path: Path, folder: Path) -> str:
    """The folder within a class folder that an image is in; empty if it is in none."""
    first, *rest = path.relative_to(folder).parts
    return first if rest else ""


def _alike(inner: Mapping[str, set[str]], root: Path) -> Iterator[str]:
    """A note where all class folders hold folders of the same names, which may be the classes."""
    same = set.intersection(*inner.values())
    if len(inner) > 1 and len(same) > 1 and not any("" in names for names in inner.values()):
        yield (
            f"The classes are the outer folders ({first_of(sorted(inner), _SHOWN)}), which hold "
            f"folders of the same names ({first_of(sorted(same), _SHOWN)}). If these are the "
            f"classes, name one of the outer folders of {root} as the source."
        )


def _start(root: Path) -> Path:
    """The folder itself, or the one in it that unpacking an archive has doubled."""
    folders = _visible_folders(root)
    if len(folders) != 1 or _is_split(folders[0]) or _loose(root):
        return root
    (only,) = folders
    is_doubled = only.name == root.resolve().name or any(
        _is_split(inner) and _visible_folders(inner) for inner in _visible_folders(only)
    )
    return _start(only) if is_doubled and not _loose(only) else root


def _split_folders(root: Path, left: _LeftOut) -> tuple[list[tuple[Path, SplitName | None]], bool]:
    """The folders that hold class folders, with their split if they are splits; whether they are.

    Raises DataError where one folder is named like a split, holds folders, and stands next to
    folders with images: it may be a class as well.
    """
    folders = _visible_folders(root)
    splits = [folder for folder in folders if _is_split(folder)]
    whole = [folder for folder in splits if _visible_folders(folder)]
    others = [folder for folder in folders if folder not in splits]
    if not splits or (others and not whole):
        return [(root, None)], False
    counts = {folder: len(image_files(folder)[0]) for folder in others}
    if len(whole) == 1 and any(counts.values()):
        raise DataError(
            f"{root} has {whole[0].name}, which looks like a split, next to "
            f"{', '.join(folder.name for folder in others[:_SHOWN])}, which look like classes. "
            f"Name {root / whole[0].name} as the source, or rename it if it is a class."
        )
    for folder, count in counts.items():
        if not _holds_results(folder):
            left.add(_OTHER, folder, f" ({pluralize(count, 'image')})")
    used = whole or splits
    for folder in splits:
        if folder not in used:
            count = len(image_files(folder)[0])
            left.add(_UNLABELLED, folder, f" ({pluralize(count, 'image')})")
    return [(_undoubled(folder), SPLIT_FOLDERS[folder.name.lower()]) for folder in used], True


def _undoubled(split: Path) -> Path:
    """The folder of a split itself, or the one of the same name in it that holds class folders."""
    inner = _visible_folders(split)
    is_doubled = len(inner) == 1 and inner[0].name == split.name and not _loose(split)
    return _undoubled(inner[0]) if is_doubled and _visible_folders(inner[0]) else split


def _require_no_splits(folder: Path) -> None:
    """Raise DataError for a class folder that seems to hold splits, which would be mixed."""
    with os.scandir(folder) as entries:
        inner = sorted(Path(each) for each in entries if _is_split(Path(each)) and each.is_dir())
    found = {SPLIT_FOLDERS[each.name.lower()]: each for each in inner if image_files(each)[0]}
    if len(found) > 1 and "train" in found:
        names = " and ".join(str(each) for each in found.values())
        raise DataError(
            f"{names} look like splits within a class, and their images would be mixed. Put the "
            f"splits outside, as in {found['train'].name}/{folder.name}, or, if {folder.name} is "
            "no class but a data set of its own, move it away."
        )


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_FOLDERS


def _visible_folders(folder: Path, left: _LeftOut | None = None) -> list[Path]:
    try:
        found = sorted(f for f in folder.iterdir() if f.is_dir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    loops = {path for path in found if path.is_symlink() and _leads_up(path)}
    for path in found if left else ():
        if left and (path.name in _THUMBNAILS or path in loops):
            left.add(_LINK if path in loops else _THUMBNAIL, path)
    return [
        path
        for path in found
        if not is_hidden(path.name) and path.name not in _THUMBNAILS and path not in loops
    ]


def _leads_up(link: Path) -> bool:
    """Whether a link leads to the folder that it is in, or to one above."""
    return link.parent.resolve().is_relative_to(link.resolve())


def _loose(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.iterdir()) if f.is_file() and is_image_name(f.name)]


def _note_loose(folder: Path, left: _LeftOut) -> None:
    for path in sorted(folder.iterdir()):
        if not path.is_dir() and not is_hidden(path.name):
            left.add(_LOOSE if is_image_name(path.name) else _NO_EXTENSION, path)


def _images(folder: Path, left: _LeftOut) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename or folder), error)

    # Without onerror, os.walk would pass over folders that it may not read.
    for place, subfolders, names in os.walk(folder, onerror=refuse):
        if _is_result(names):
            left.add(_RUN, Path(place))
            subfolders.clear()
            continue
        here = Path(place)
        # Changed in place: os.walk reads from this list which folders to visit, and in which order.
        subfolders[:] = [name for name in sorted(subfolders) if _is_visited(here / name, left)]
        for name in sorted(name for name in names if not is_hidden(name)):
            path = here / name
            if is_image_name(path.name):
                yield path
            else:
                left.add(_NO_EXTENSION, path)


def _is_visited(folder: Path, left: _LeftOut) -> bool:
    """Whether the images of a subfolder belong to the class; notes why not."""
    if folder.name in _THUMBNAILS:
        left.add(_THUMBNAIL, folder)
        return False
    if not is_hidden(folder.name) and folder.is_symlink():
        # It could lead back to a folder above, and to the images of another class.
        left.add(_LINK, folder)
        return False
    return not is_hidden(folder.name)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is meant as an image and not hidden."""
    path = PurePath(name)
    return path.suffix.lower() in _IMAGE_ENDINGS and not is_hidden(path.name)


def _is_result(names: Iterable[str]) -> bool:
    found = set(names)
    return any(wanted <= found for wanted in _RESULTS)


def _holds_results(folder: Path) -> bool:
    """Whether a folder without images of its own is one of runs, searches or explanations."""
    return any(_is_result(names) for _, _, names in os.walk(folder))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name in _OF_SYSTEMS


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot read the folder {folder}: {error.strerror}. Allow it to be read, or move it away."
    )


def _note(sentence: str, names: list[str]) -> str:
    noun, _, rest = sentence.partition(" {")
    verb, _, end = rest.partition("}")
    verb = {"was": "were", "is": "are"}[verb] if len(names) > 1 else verb
    first, _, more = noun.partition(" ")
    counted = f"{pluralize(len(names), first)}{f' {more}' if more else ''}"
    return f"{counted} {verb}{end}: {first_of(sorted(names), _SHOWN)}."


def _nothing(root: Path) -> str:
    loose = len(_loose(root))
    hint = f" {loose} images are directly in it; move them to class folders." if loose else ""
    return (
        f"{root} has no class folders with images. Expected one folder per class, as in "
        f"{root.name}/cat/1.jpg, or {root.name}/train/cat/1.jpg.{hint}"
    )
