"""Files that hold many images each: which of a folder are read, and to which split they belong."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from glasshouse.data.class_folders import SPLIT_FOLDERS, is_hidden, is_image_name
from glasshouse.data.file_splits import SplitName
from glasshouse.errors import DataError
from glasshouse.wording import first_of, pluralize

Layout = Literal["class folders", ".parquet", ".tar"]
PARQUET: Literal[".parquet"] = ".parquet"
TAR: Literal[".tar"] = ".tar"
# Compressed, a tar can only be read from its start.
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_SHOWN = 5


@dataclass(frozen=True)
class Shard:
    """A file with many images; name: relative to the source; split: where its name says one."""

    path: Path
    name: str
    split: SplitName | None = None


def layout_of(files: Iterable[tuple[str, int]], origin: object) -> Layout:
    """How a source is laid out: by what most of its bytes are in.

    files: names, relative to the source, with their sizes in bytes. Raises DataError for archives
    that have to be unpacked first.
    """
    totals = {"class folders": 0, PARQUET: 0, TAR: 0}
    packed: list[str] = []
    for name, size in files:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in (PARQUET, TAR) and is_visible(name):
            totals[suffix] += max(size, 1)
        elif is_image_name(name):
            totals["class folders"] += max(size, 1)
        elif is_packed(name):
            packed.append(name)
    if packed and not any(totals.values()):
        raise DataError(
            f"{origin} has no images, but {pluralize(len(packed), 'archive')} such as {packed[0]}: "
            "unpack it to class folders, or write uncompressed .tar shards"
        )
    if totals[PARQUET] > max(totals["class folders"], totals[TAR]):
        return PARQUET
    return TAR if totals[TAR] > totals["class folders"] else "class folders"


def is_packed(name: str) -> bool:
    """Whether a file of this name is an archive that has to be unpacked first."""
    return name.lower().endswith(_COMPRESSED)


def is_visible(name: str) -> bool:
    """Whether neither a file nor a folder that it is in is hidden."""
    return not any(is_hidden(part) for part in PurePosixPath(name).parts)


def is_shard(name: str, layout: Layout) -> bool:
    """Whether a file of this name is one of the shards of a source."""
    return PurePosixPath(name).suffix.lower() == layout and is_visible(name)


def as_shards(
    paths: Sequence[Path], names: Sequence[str], origin: object
) -> tuple[tuple[Shard, ...], tuple[str, ...]]:
    """Shards with the splits in their names, and notes on those that are left out.

    train-00000-of-00010.parquet, and any file in a folder named train, belong to the training
    split. Where some have a split, those without are left out; where none has, and the words of
    every name have one, as in flowers-train-00.tar, it is that. Raises DataError where the shards
    of one split are in several folders, which may be different versions of the same images.
    """
    found = [Shard(p, n, _split_of(n)) for p, n in sorted(zip(paths, names, strict=True))]
    notes: tuple[str, ...] = ()
    if not any(shard.split for shard in found):
        found, notes = _with_inner_splits(found)
    used = [shard for shard in found if shard.split] or found
    _require_one_version(used, origin)
    left = [shard.name for shard in found if not shard.split] if len(used) < len(found) else []
    if not left:
        return tuple(used), notes
    verb = "was" if len(left) == 1 else "were"
    note = (
        f"{pluralize(len(left), 'file')} that {'is' if len(left) == 1 else 'are'} of no split "
        f"{verb} left out: {first_of(left, _SHOWN)}."
    )
    return tuple(used), (note,)


def _with_inner_splits(shards: list[Shard]) -> tuple[list[Shard], tuple[str, ...]]:
    """The shards with the splits within their names, where each name has one of several.

    Else unchanged, with a note where the names of some have words for splits.
    """
    inner = {shard.name: _inner_splits(shard.name) for shard in shards}
    several = set[SplitName]().union(*inner.values())
    if len(several) > 1 and all(len(splits) == 1 for splits in inner.values()):
        return [replace(shard, split=min(inner[shard.name])) for shard in shards], ()
    named = [name for name, splits in inner.items() if splits]
    if not named or (len(several) == 1 and len(named) == len(shards)):
        return shards, ()
    verb = "has" if len(named) == 1 else "have"
    return shards, (
        f"{len(named):,} of {len(shards):,} file names {verb} a word for a split "
        f"({first_of(named, _SHOWN)}), but not each has exactly one, so that all files are read as "
        "one set. If they are splits, begin each name with its split, as in train-0000"
        f"{PurePosixPath(named[0]).suffix}.",
    )


def _inner_splits(name: str) -> set[SplitName]:
    words = re.split(r"[-_.]", PurePosixPath(name).stem.lower())
    return {SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS}


def _require_one_version(shards: Sequence[Shard], origin: object) -> None:
    folders: dict[SplitName | None, dict[str, None]] = {}
    for shard in shards:
        parts = [
            p for p in PurePosixPath(shard.name).parent.parts if p.lower() not in SPLIT_FOLDERS
        ]
        folders.setdefault(shard.split, {})["/".join(parts)] = None
    several = next((list(each) for each in folders.values() if len(each) > 1), None)
    if several:
        names = ", ".join(name or "the folder itself" for name in several[:_SHOWN])
        raise DataError(
            f"{origin} has files of the same split in several folders ({names}), which may be "
            f"versions of the same images: name one of them, such as {origin}/{max(several)}"
        )


def _split_of(name: str) -> SplitName | None:
    """The split that a folder, or the first word of a file name, stands for."""
    path = PurePosixPath(name)
    first = re.split(r"[-_.]", path.name.lower(), maxsplit=1)[0]
    words = [first, *(part.lower() for part in reversed(path.parent.parts))]
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)
