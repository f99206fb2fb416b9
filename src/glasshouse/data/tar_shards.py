"""Tar shards, as WebDataset writes them: images with a .cls of the same name, or class folders."""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from glasshouse.data.class_folders import SPLIT_FOLDERS, is_image_name, like_splits
from glasshouse.data.class_names import NO_LABEL, is_missing, list_classes, stands_for_none
from glasshouse.data.embedded import TarMember, container_stamp
from glasshouse.data.file_splits import FileListing, SplitName
from glasshouse.data.shards import Shard, is_visible
from glasshouse.errors import DataError
from glasshouse.wording import first_of, listed, pluralize, readable_name

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
    class folder that the image is in. What is left out is counted and named in the notes. Raises
    DataError for a damaged or truncated shard, for images without a label, and for shards without
    images.
    """
    labels: dict[tuple[str, str], str] = {}
    members: list[tuple[TarMember, Shard]] = []
    links: list[str] = []
    for shard in shards:
        for member, text in _contents(shard, links):
            if text is None:
                members.append((member, shard))
            else:
                labels[shard.name, str(PurePosixPath(member.name).with_suffix(""))] = text
    if not members:
        raise DataError(
            f"{origin} has no images in {pluralize(len(shards), 'tar file')}: expected NAME.jpg "
            "with NAME.cls, or class folders"
        )
    notes: tuple[str, ...] = ()
    if labels:
        found, notes = _by_cls(members, labels)
        found, loose = _of_splits(found)
    else:
        members, loose = _in_splits(members)
        found = _by_folder(members, origin)
    classes = list_classes([each.label for each in found])
    doubt = () if labels else tuple(like_splits(classes.names))
    splits = [each.split for each in found]
    left_out = tuple(_left_out(loose, links))
    return FileListing(
        origin=origin,
        paths=tuple(each.member for each in found),
        ids=np.array(_ids(found)),
        targets=classes.labels,
        class_names=classes.names,
        given_splits=tuple(s for s in splits if s) if all(splits) else None,
        notes=(*left_out, *notes, *classes.notes, *doubt),
        left_out=left_out,
    )


def _left_out(loose: Sequence[str], links: Sequence[str]) -> Iterator[str]:
    for names, noun, why in (
        (loose, "image", "next to the splits"),
        (links, "link", "to a file that is not before it in its tar"),
    ):
        if names:
            verb = "was" if len(names) == 1 else "were"
            shown = first_of(names, _SHOWN)
            yield f"{pluralize(len(names), noun)} {why} {verb} left out: {shown}."


def _contents(shard: Shard, links: list[str]) -> Iterator[tuple[TarMember, str | None]]:
    """The images of a shard without a text, and its .cls files with what they say.

    Of several names of one file, a tar has the content once. Other links are added to links.
    """
    seen: dict[str, tuple[TarMember, str | None]] = {}
    try:
        with shard.path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            stamp = container_stamp(os.fstat(file.fileno()))
            for info in archive:
                # The library remembers every member otherwise, of millions.
                archive.members = []  # type: ignore[attr-defined]
                name = info.name.removeprefix("./")
                is_image = is_image_name(name)
                if not is_visible(name) or not (is_image or name.lower().endswith(".cls")):
                    continue
                if info.isreg():
                    place = (info.offset_data, info.size)
                    member = TarMember(shard.path, name, *place, stamp=stamp)
                    content = None if is_image else archive.extractfile(info)
                    seen[name] = member, None if content is None else _label(shard, member, content)
                elif info.islnk() and (first := seen.get(info.linkname.removeprefix("./"))):
                    seen[name] = replace(first[0], name=name), first[1]
                else:
                    if info.islnk() or info.issym():
                        links.append(readable_name(name))
                    continue
                yield seen[name]
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
        # Some editors write a byte order mark, which would become part of the label.
        text = content.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text: expected a class number or name") from error
    if is_missing(text):
        raise DataError(f"{where} has no label: expected a class number or name")
    if len(text.splitlines()) > 1:
        raise DataError(f"{where} has several lines: expected one class number or name")
    return text


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to the first dot."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _stems(name: str) -> Iterator[str]:
    """The name without its last ending, without its last two, and so on."""
    path = PurePosixPath(name)
    while path.suffix:
        path = path.with_suffix("")
        yield str(path)


def _by_cls(
    members: Sequence[tuple[TarMember, Shard]], labels: dict[tuple[str, str], str]
) -> tuple[list[_Found], tuple[str, ...]]:
    """The images with the labels of their names, and a note on labels of several images each."""
    # A label that has an image of its own name is no other's.
    taken = {(shard.name, stem) for member, shard in members for stem in _stems(member.name)}
    by_key: dict[tuple[str, str], set[str]] = {}
    for (shard_name, stem), text in labels.items():
        if (shard_name, stem) not in taken:
            by_key.setdefault((shard_name, _key(stem)), set()).add(text)

    def label_of(member: TarMember, shard: Shard) -> tuple[str, str]:
        # Names may have a dot of their own, as in cat.1.jpg: the nearest label is meant.
        for stem in _stems(member.name):
            if text := labels.get((shard.name, stem)):
                return stem, text
        key = _key(member.name)
        texts = by_key.get((shard.name, key), set())
        return key, next(iter(texts)) if len(texts) == 1 else ""

    found = []
    samples: dict[tuple[str, str], list[TarMember]] = {}
    for member, shard in members:
        stem, text = label_of(member, shard)
        found.append(_Found(member, shard, text, shard.split or _split_of(member)))
        samples.setdefault((shard.name, stem), []).append(member)
    _require_labels(found)
    return found, tuple(_several(list(samples.values())))


def _require_labels(found: Sequence[_Found]) -> None:
    """Raise DataError for images without a label, and for those whose label stands for none."""
    why = {"": "without a .cls file"}
    if stands_for_none(each.label for each in found):
        why[NO_LABEL] = f"without a label, as their .cls files say {NO_LABEL}"
    for label, words in why.items():
        bare = [str(each.member) for each in found if each.label == label]
        if bare:
            raise DataError(
                f"{len(bare):,} of {len(found):,} images {words}: {', '.join(bare[:_SHOWN])}"
            )


def _split_of(member: TarMember) -> SplitName | None:
    """The split that a folder of an image is named after."""
    folders = PurePosixPath(member.name.lower()).parts[:-1]
    return next((SPLIT_FOLDERS[part] for part in folders if part in SPLIT_FOLDERS), None)


def _of_splits(found: list[_Found]) -> tuple[list[_Found], list[str]]:
    """The images of splits, where there are several, and the names of the others; else all."""
    if len({each.split for each in found if each.split}) < 2:
        return found, []
    used = [each for each in found if each.split]
    return used, [readable_name(each.member.name) for each in found if not each.split]


def _several(samples: Sequence[Sequence[TarMember]]) -> Iterator[str]:
    """A note on images of one sample, which may be masks, and come into different splits."""
    several = [each for each in samples if len(each) > 1]
    if several:
        shown = listed([readable_name(member.name) for member in several[0][:_SHOWN]])
        yield (
            f"{pluralize(len(several), 'label')} of {len(samples):,} "
            f"{'is' if len(several) == 1 else 'are'} of several images, such as {shown}: each of "
            "them is an image of the class, also a mask, and they may be in different splits."
        )


def _in_splits(
    members: Sequence[tuple[TarMember, Shard]],
) -> tuple[list[tuple[TarMember, Shard]], list[str]]:
    """The images in folders of splits that hold class folders, and the names of the others.

    All of them, where there are no two such splits next to each other.
    """
    paths = [PurePosixPath(member.name).parts for member, _ in members]
    found: dict[tuple[str, ...], set[SplitName]] = {}
    for parts in paths:
        for depth, part in enumerate(parts[:-2]):
            if split := SPLIT_FOLDERS.get(part.lower()):
                found.setdefault(parts[:depth], set()).add(split)
                break
    starts = [start for start, splits in found.items() if len(splits) > 1]
    # Several are data sets next to each other, or splits within classes.
    if len(starts) != 1 or not all(_is_on_way(parts, starts[0]) for parts in paths):
        return list(members), []
    depth = len(starts[0])
    is_in = [len(p) > depth + 2 and p[depth].lower() in SPLIT_FOLDERS for p in paths]
    others = [readable_name(m.name) for (m, _), is_used in zip(members, is_in, strict=True)
              if not is_used]  # fmt: skip
    return [each for each, is_used in zip(members, is_in, strict=True) if is_used], others


def _is_on_way(parts: tuple[str, ...], start: tuple[str, ...]) -> bool:
    """Whether a file is below the folder that a start leads to, or in a folder on the way."""
    folders = parts[:-1][: len(start)]
    return folders == start[: len(folders)]


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
