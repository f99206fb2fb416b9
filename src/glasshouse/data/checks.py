"""What may be wrong with the pictures of a source, in the order in which one should care."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glasshouse.data.cache import blocks
from glasshouse.data.images import ImageSet, Splits

Level = Literal["error", "warning", "info"]
# (part, position): where a picture is.
Place = tuple[str, int]

_LEVELS: tuple[Level, ...] = ("error", "warning", "info")
_IMBALANCE = 3.0
_COARSE_POINTS = 5.0
_Z95 = 1.959964


@dataclass(frozen=True)
class Finding:
    """One observation; ids are the pictures, or the files, that it is about."""

    level: Level
    title: str
    detail: str
    ids: tuple[str, ...] = ()


def check(splits: Splits) -> tuple[Finding, ...]:
    """Everything worth knowing before training, errors first.

    error: figures would be wrong. warning: they may mislead. info: what there is.
    """
    looks, constant = _look(splits)
    findings = [
        *_missing_classes(splits),
        *_bad_files(splits),
        *_copies(splits, looks),
        *_imbalance(splits),
        *_constant(constant),
        *_resolution(splits),
        *_counts(splits),
    ]
    return tuple(sorted(findings, key=lambda finding: _LEVELS.index(finding.level)))


def _parts(splits: Splits) -> dict[str, ImageSet]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def _look(splits: Splits) -> tuple[dict[bytes, list[Place]], list[str]]:
    """Where each different picture is, and the ids of those of a single colour."""
    looks: dict[bytes, list[Place]] = defaultdict(list)
    constant = []
    for part, images in _parts(splits).items():
        position = 0
        for block in blocks(images.pictures):
            flat = block.reshape(len(block), 3, -1)
            same = (flat == flat[:, :, :1]).all(axis=(1, 2))
            constant += [str(images.ids[position + n]) for n in np.flatnonzero(same)]
            for picture in block:
                looks[hashlib.blake2b(picture.data, digest_size=16).digest()].append(
                    (part, position)
                )
                position += 1
    return looks, constant


def _counts_of(images: ImageSet) -> dict[str, int]:
    counts = np.bincount(images.labels, minlength=len(images.class_names)).tolist()
    return dict(zip(images.class_names, counts, strict=True))


def _missing_classes(splits: Splits) -> Iterator[Finding]:
    for part, images in _parts(splits).items():
        missing = [name for name, count in _counts_of(images).items() if not count]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            detail = f"The {part} part has no picture of {names}. Add some, or remove the class."
            yield Finding("error", f"Classes missing in {part}", detail)


def _bad_files(splits: Splits) -> Iterator[Finding]:
    if splits.bad_files:
        reasons = "; ".join(f"{bad.path}: {bad.reason}" for bad in splits.bad_files[:5])
        more = f"; and {len(splits.bad_files) - 5} more" if len(splits.bad_files) > 5 else ""
        title = f"{_many(len(splits.bad_files), 'file')} cannot be read"
        ids = tuple(bad.path for bad in splits.bad_files)
        yield Finding("warning", title, f"They are left out. {reasons}{more}.", ids)


def _copies(splits: Splits, looks: Mapping[bytes, list[Place]]) -> Iterator[Finding]:
    """Equal pictures: with different labels, in two parts, or twice in one."""
    groups = [places for places in looks.values() if len(places) > 1]
    parts = _parts(splits)
    disputed = [g for g in groups if len({int(parts[p].labels[n]) for p, n in g}) > 1]
    leaked = [g for g in groups if len({part for part, _ in g}) > 1]
    repeated = [g for g in groups if len({part for part, _ in g}) == 1]
    if disputed:
        detail = "Equal pictures have different labels: at least one of each group is wrong."
        yield _group_finding("error", "with contradicting labels", detail, disputed, parts)
    if leaked:
        level: Level = "error" if _reaches_test(leaked) else "warning"
        detail = "The net is tested on what it was trained on or chosen by. Remove one of each."
        yield _group_finding(level, "in more than one part", detail, leaked, parts)
    if repeated:
        detail = "They count twice in training or in the figures. Remove all but one."
        yield _group_finding("warning", "more than once in a part", detail, repeated, parts)


def _reaches_test(groups: list[list[Place]]) -> bool:
    return any(part == "test" for group in groups for part, _ in group)


def _group_finding(
    level: Level,
    where: str,
    detail: str,
    groups: list[list[Place]],
    parts: Mapping[str, ImageSet],
) -> Finding:
    ids = tuple(str(parts[part].ids[number]) for group in groups for part, number in group)
    return Finding(level, f"{_many(len(groups), 'picture')} {where}", detail, ids)


def _imbalance(splits: Splits) -> Iterator[Finding]:
    counts = {name: count for name, count in _counts_of(splits.train).items() if count}
    most, least = max(counts, key=lambda n: counts[n]), min(counts, key=lambda n: counts[n])
    ratio = counts[most] / counts[least]
    if ratio >= _IMBALANCE:
        detail = (
            f"'{most}' has {counts[most]:,} training pictures, '{least}' {counts[least]:,}. "
            f"Always saying '{most}' is right {counts[most] / sum(counts.values()):.0%} of the "
            "time; look at the recall of each class, not at the accuracy alone."
        )
        yield Finding("warning", f"Classes differ {ratio:.1f} times in size", detail)


def _constant(ids: list[str]) -> Iterator[Finding]:
    if ids:
        title = f"{_many(len(ids), 'picture')} of a single colour"
        detail = "Nothing can be seen in them: placeholders, or 16-bit files of a narrow range."
        yield Finding("warning", title, detail, tuple(ids))


def _resolution(splits: Splits) -> Iterator[Finding]:
    """The half-width of a 95 % interval at 80 % accuracy: what a part can tell apart."""
    for part in ("validation", "test"):
        count = len(_parts(splits)[part])
        points = 100 * _Z95 * math.sqrt(0.8 * 0.2 / max(1, count))
        level: Level = "warning" if points > _COARSE_POINTS else "info"
        detail = (
            f"With {count:,} pictures, an accuracy of about 80 % is known to ± {points:.1f} points."
        )
        yield Finding(level, f"{part} tells differences above {points:.1f} points only", detail)


def _counts(splits: Splits) -> Iterator[Finding]:
    for part, images in _parts(splits).items():
        counts = _counts_of(images)
        detail = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        title = f"{part}: {len(images):,} pictures in {len(counts)} classes"
        yield Finding("info", title, f"{detail}.")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
