"""Data sets that are put together on the page Teach: class folders below RUNS/taught.

They are ordinary sources: `glasshouse train RUNS/taught/NAME` and every page can use them. Names
from a browser never become a path unless they are equal to one that is there, or were made safe.
"""

import hashlib
import re
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glasshouse.data.class_folders import SPLIT_FOLDERS
from glasshouse.data.image_formats import format_of
from glasshouse.errors import UsageError
from glasshouse.serving.photos import reasons_against
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import write_bytes
from glasshouse.wording import pluralize

FOLDER = "taught"
MOST_CLASSES, MOST_IMAGES = 20, 2000
MOST_FILE_BYTES, MOST_SET_BYTES = 20 << 20, 1 << 30
# Each of the three splits needs one.
FEWEST_PER_CLASS = 3
_SET_NAME = re.compile(r"\w[\w-]{0,59}", re.ASCII)
_MOST_LETTERS = 60
# Characters and names that some file system refuses or reads as something else.
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]+')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{n}{k}" for n in ("com", "lpt") for k in range(1, 10))}
_IGNORED = {"__macosx"}
_ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
# Two uploads at the same time must not both pass a limit.
_lock = threading.Lock()


@dataclass(frozen=True)
class Added:
    """What became of the files of one upload: how many were added, and why others were not."""

    count: int
    refused: tuple[str, ...]


def set_names(workbench: Workbench) -> list[str]:
    """The data sets, the one that changed last first."""
    folders = [path for path in (workbench.runs / FOLDER).glob("*") if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.name for path in folders if _SET_NAME.fullmatch(path.name)]


def free_set_name(workbench: Workbench, *but: str) -> str:
    """A name that is not taken, nor one of these: set-1, set-2 and so on."""
    taken = {*set_names(workbench), *but}
    return next(name for k in range(1, len(taken) + 2) if (name := f"set-{k}") not in taken)


def set_folder(workbench: Workbench, name: str) -> Path:
    """The folder of a data set, which may not exist yet; raises UsageError for an unsafe name."""
    if not _SET_NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a data set: use up to 60 letters from a to z, digits, dashes "
            "and underscores, and begin with a letter or digit"
        )
    return workbench.runs / FOLDER / name


def safe_class_name(words: str) -> str:
    """The words as the name of a folder on any system; raises UsageError where none is left."""
    kept = _UNSAFE.sub("-", unicodedata.normalize("NFC", words))
    kept = "".join(c for c in kept if not unicodedata.category(c).startswith("C"))
    kept = " ".join(kept.split()).strip(". -")[:_MOST_LETTERS].rstrip(". ")
    if not kept:
        raise UsageError("A class needs a name of letters or digits.")
    if kept.lower() in SPLIT_FOLDERS:
        raise UsageError(f"'{kept}' is the name of a split, not of a class: choose another name.")
    if kept.lower().partition(".")[0] in _RESERVED or kept.lower() in _IGNORED:
        raise UsageError(f"'{kept}' has a special meaning for file systems: choose another name.")
    return kept


def classes_of(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, in the order of their names."""
    if not folder.is_dir():
        return {}
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    return {path.name: _files(path) for path in classes}


def file_of(folder: Path, class_name: str, file: str) -> Path | None:
    """An image of a set by its class and name; None where there is no such image."""
    return next(
        (path for path in classes_of(folder).get(class_name, ()) if path.name == file), None
    )


def add_class(folder: Path, words: str) -> str:
    """A new empty class; returns its name. Raises UsageError for a name that is taken or unsafe."""
    name = safe_class_name(words)
    with _lock:
        known = classes_of(folder)
        _require_free(name, known)
        if len(known) >= MOST_CLASSES:
            raise UsageError(f"A data set made here has at most {MOST_CLASSES} classes.")
        (folder / name).mkdir(parents=True)
    return name


def rename_class(folder: Path, class_name: str, words: str) -> str:
    """Rename a class; returns the new name. Raises UsageError as `add_class` does."""
    name = safe_class_name(words)
    with _lock:
        known = classes_of(folder)
        if class_name not in known:
            raise UsageError(f"There is no class '{class_name}' any more.")
        if name != class_name:
            _require_free(name, [other for other in known if other != class_name])
            (folder / class_name).rename(folder / name)
    return name


def remove_class(folder: Path, class_name: str) -> None:
    """Remove a class with its images; a file that is no image of it is left in place."""
    with _lock:
        for path in classes_of(folder).get(class_name, ()):
            path.unlink(missing_ok=True)
        place = folder / class_name
        if class_name in classes_of(folder) and not any(place.iterdir()):
            place.rmdir()


def remove_image(folder: Path, class_name: str, file: str) -> None:
    """Remove one image; nothing happens where there is no such image."""
    path = file_of(folder, class_name, file)
    if path is not None:
        path.unlink(missing_ok=True)


def add_images(folder: Path, class_name: str, files: Sequence[tuple[str, bytes]]) -> Added:
    """Add files, as (name, bytes), to a class that exists.

    Refused, with the reason and by name: what `decode` cannot read, files beyond the limits, and
    images that the set has already, since equal images in two splits or classes spoil a test.
    """
    fitting = [(name, data) for name, data in files if len(data) <= MOST_FILE_BYTES]
    large = f"larger than {MOST_FILE_BYTES >> 20} MB"
    refused = [f"{name}: {large}" for name, data in files if len(data) > MOST_FILE_BYTES]
    reasons = reasons_against([data for _, data in fitting])
    refused += [f"{n}: {why}" for (n, _), why in zip(fitting, reasons, strict=True) if why]
    good = [file for file, why in zip(fitting, reasons, strict=True) if not why]
    count = 0
    with _lock:
        if class_name not in classes_of(folder):
            return Added(0, (f"There is no class '{class_name}' any more.",))
        for name, data in good:
            problem = _write(folder, class_name, name, data)
            count += not problem
            refused += [f"{name}: {problem}"] if problem else []
    return Added(count, tuple(refused))


def what_is_missing(folder: Path) -> str:
    """What a set still needs before a network can be trained on it; empty when it is enough."""
    counts = {name: len(files) for name, files in classes_of(folder).items()}
    if len(counts) < 2:
        return "Two classes or more are needed."
    few = [f"'{name}'" for name, count in counts.items() if count < FEWEST_PER_CLASS]
    if few:
        listed = f"{', '.join(few[:-1])} and {few[-1]}" if len(few) > 1 else few[0]
        return f"{listed} need{'s' * (len(few) == 1)} at least {FEWEST_PER_CLASS} images."
    return ""


def _write(folder: Path, class_name: str, name: str, data: bytes) -> str:
    """Write one checked file; returns why it was not written."""
    known = classes_of(folder)
    paths = [path for files in known.values() for path in files]
    if len(paths) >= MOST_IMAGES:
        return f"a data set made here has at most {pluralize(MOST_IMAGES, 'image')}"
    if sum(path.stat().st_size for path in paths) + len(data) > MOST_SET_BYTES:
        return f"a data set made here has at most {MOST_SET_BYTES >> 30} GB"
    digest = hashlib.sha256(data).hexdigest()[:12]
    for other, files in known.items():
        if any(path.stem.endswith(digest) for path in files):
            return f"it is in '{other}' already"
    kind = format_of(data, name)
    stem = re.sub(r"[^\w-]+", "-", Path(name).stem, flags=re.ASCII).strip("-_")[:40] or "image"
    ending = _ENDINGS.get(kind, kind.lower())
    write_bytes(folder / class_name / f"{stem}-{digest}.{ending}", data)
    return ""


def _require_free(name: str, known: "Sequence[str] | dict[str, list[Path]]") -> None:
    # Some file systems do not distinguish upper from lower case.
    if name.casefold() in {other.casefold() for other in known}:
        raise UsageError(f"There is a class '{name}' already.")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
