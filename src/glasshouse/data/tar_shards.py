"""Tar shards, as WebDataset writes them: images with a .cls of the same name, or class folders."""

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from glasshouse.data.class_folders import SPLIT_FOLDERS, is_image_name
from glasshouse.data.class_names import is_missing, list_classes
from glasshouse.data.embedded import TarMember
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.data.shards import Shard, is_visible
from glasshouse.errors import DataError
from glasshouse.wording import pluralize, readable_name

# A class is a number or a name; anything longer is no label.
_MOST_LABEL_BYTES = 1024
_BLOCK, _REST_BYTES = 512, 1 << 20
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Found:
    """An image in a shard, with its label and split as far as they are known."""

    member: TarMember
    shard: Shard
    label: str
    split: SplitName | None


def list_tars(shards: Sequence[Shard], origin: Path) -> FileListing:
    """List the images in tar files; ids are their names, with that of the shard where needed.

    The label is what ``NAME.cls`` next to ``NAME.jpg`` says, or, where no shard has such files, the
    class folder that the image is in. Raises DataError for a damaged or truncated shard, for images
    without a label, and for shards without images.
    """
    labels: dict[tuple[str, str], str] = {}
    members: list[tuple[TarMember, Shard]] = []
    for shard in shards:
        for member, text in _contents(shard):
            if text is None:
                members.append((member, shard))
            else:
                labels[shard.name, _key(member.name)] = text
    if not members:
        raise DataError(
            f"{origin} has no images in {pluralize(len(shards), 'tar file')}: expected NAME.jpg "
            "with NAME.cls, or class folders"
        )
    found = _by_cls(members, labels) if labels else _by_folder(members, origin)
    classes = list_classes([each.label for each in found])
    splits = [each.split for each in found]
    return FileListing(
        origin=origin,
        paths=tuple(each.member for each in found),
        ids=np.array(_ids(found)),
        targets=classes.labels,
        class_names=classes.names,
        given_splits=tuple(s for s in splits if s) if all(splits) else None,
        notes=classes.notes,
    )


def _contents(shard: Shard) -> Iterator[tuple[TarMember, str | None]]:
    """The images of a shard without a text, and its .cls files with what they say."""
    try:
        with tarfile.open(shard.path, "r:") as archive:
            for info in archive:
                # The library remembers every member otherwise, of millions.
                archive.members = []  # type: ignore[attr-defined]
                name = info.name.removeprefix("./")
                if not info.isreg() or not is_visible(name):
                    continue
                member = TarMember(shard.path, name, info.offset_data, info.size)
                if is_image_name(name):
                    yield member, None
                elif name.lower().endswith(".cls"):
                    content = archive.extractfile(info)
                    assert content is not None
                    yield member, _label(shard, member, content)
            _require_end(shard, archive.offset)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(shard, str(error)) from error
    except OSError as error:
        raise DataError(f"cannot read {shard.path}: {error.strerror}") from error


def _require_end(shard: Shard, offset: int) -> None:
    """Raise DataError unless a shard ends as a tar does: the library takes any end for the end."""
    with shard.path.open("rb") as file:
        file.seek(offset)
        first = file.read(_BLOCK)
        if len(first) < _BLOCK:
            raise _damaged(shard, "it ends without the empty blocks that close a tar")
        if any(first):
            raise _damaged(shard, f"no member begins at byte {offset:,}")
        while rest := file.read(_REST_BYTES):
            if any(rest):
                raise DataError(
                    f"{shard.path} has more after its end, as joined tar files have: join them "
                    "with tar --concatenate, or keep them apart"
                )


def _damaged(shard: Shard, reason: str) -> DataError:
    return DataError(
        f"{shard.path} is truncated or damaged: {reason.rstrip('.')}. Copy or write it again."
    )


def _label(shard: Shard, member: TarMember, content: IO[bytes]) -> str:
    where = f"{shard.path}: {readable_name(member.name)}"
    if member.size > _MOST_LABEL_BYTES:
        raise DataError(f"{where} has {member.size:,} bytes: expected a class number or name")
    try:
        text = content.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text: expected a class number or name") from error
    if is_missing(text):
        raise DataError(f"{where} has no label: expected a class number or name")
    return text


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to the first dot."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _by_cls(
    members: Sequence[tuple[TarMember, Shard]], labels: dict[tuple[str, str], str]
) -> list[_Found]:
    bare = [m for m, shard in members if (shard.name, _key(m.name)) not in labels]
    if bare:
        raise DataError(
            f"{len(bare):,} of {len(members):,} images without a .cls file: "
            f"{', '.join(str(member) for member in bare[:_SHOWN])}"
        )
    return [_Found(m, s, labels[s.name, _key(m.name)], s.split) for m, s in members]


def _by_folder(members: Sequence[tuple[TarMember, Shard]], origin: Path) -> list[_Found]:
    paths = [PurePosixPath(member.name).parts for member, _ in members]
    # A folder that everything is in, and then the splits, say nothing of the class.
    skipped = 0
    while all(len(p) > skipped + 2 for p in paths) and len({p[skipped] for p in paths}) == 1:
        if paths[0][skipped].lower() in SPLIT_FOLDERS:
            break
        skipped += 1
    has_splits = all(len(p) > skipped + 2 and p[skipped].lower() in SPLIT_FOLDERS for p in paths)
    level = skipped + has_splits
    loose = [member for (member, _), p in zip(members, paths, strict=True) if len(p) < level + 2]
    if loose:
        raise DataError(
            f"{origin}: {len(loose):,} of {len(members):,} images with neither a .cls file nor a "
            f"class folder: {', '.join(str(member) for member in loose[:_SHOWN])}"
        )
    return [
        _Found(
            member,
            shard,
            readable_name(parts[level]),
            SPLIT_FOLDERS[parts[skipped].lower()] if has_splits else shard.split,
        )
        for (member, shard), parts in zip(members, paths, strict=True)
    ]


def _ids(found: Sequence[_Found]) -> list[str]:
    names = [readable_name(each.member.name) for each in found]
    if len(set(names)) == len(names):
        return names
    whole = [f"{each.shard.name}/{name}" for each, name in zip(found, names, strict=True)]
    twice, times = Counter(whole).most_common(1)[0]
    if times > 1:
        raise DataError(f"{twice} occurs twice in its tar: expected each name once")
    return whole
