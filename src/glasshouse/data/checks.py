"""What may be wrong with the images of a source, in the order in which one should care."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.copies import equal_copies, near_copies
from glasshouse.data.findings import (
    LEVELS,
    Everything,
    Finding,
    Level,
    counts_of,
    everything,
    parts_of,
)
from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.looks import Looks, look
from glasshouse.wording import pluralize

_IMBALANCE = 3.0
_COARSE = 0.05
_Z95 = 1.959964
# A class's share differs between two parts when it does so by points and beyond chance.
_SHARE_POINTS, _SHARE_ERRORS = 0.05, 3.0
_SMALLEST_FOR_NEAR = 16
_LARGEST_ENLARGEMENT = 4.0
_ODD_SIDE, _ODD_ASPECT = 4.0, 2.0


@dataclass(frozen=True)
class Resolution:
    """Which differences of accuracy n images can tell from chance at 95 %, as shares.

    alone: half the interval of one accuracy p, ``1.96 sqrt(p (1 - p) / n)``. unpaired: between
    two classifiers on different images, ``1.96 sqrt(2 p (1 - p) / n)``. paired: on the same
    ones, of which a share d makes just one of the two right, ``1.96 sqrt(d / n)`` (McNemar).
    """

    alone: float
    unpaired: float
    paired: float


def check(splits: Splits) -> tuple[Finding, ...]:
    """Everything worth knowing before training, errors first."""
    sets, whole = list(parts_of(splits).values()), everything(splits)
    is_close = min(splits.train.pixels.shape[2:]) >= _SMALLEST_FOR_NEAR
    looks = look(sets, closely=is_close)
    return _ordered(
        [
            *_missing_classes(splits),
            *_bad_files(splits),
            *equal_copies(looks, whole),
            *(near_copies(looks, whole) if is_close else _too_small_for_near(splits)),
            *_class_shares(splits),
            *_imbalance(splits),
            *_constant(looks, whole),
            *_sizes(splits, whole),
            *_odd_files(splits),
            *_resolutions(splits),
            *_counts(splits),
        ]
    )


def blocking(splits: Splits) -> tuple[Finding, ...]:
    """The errors alone: what stops training. Quick enough for each start."""
    looks = look(list(parts_of(splits).values()), closely=False)
    found = [*_missing_classes(splits), *equal_copies(looks, everything(splits))]
    return tuple(finding for finding in found if finding.level == "error")


def resolution(count: int, *, accuracy: float = 0.8, disagreement: float = 0.1) -> Resolution:
    """What count images can tell apart, for an accuracy and a disagreement in 0..1."""
    spread = accuracy * (1 - accuracy) / max(1, count)
    return Resolution(
        _Z95 * math.sqrt(spread),
        _Z95 * math.sqrt(2 * spread),
        _Z95 * math.sqrt(disagreement / max(1, count)),
    )


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def _missing_classes(splits: Splits) -> Iterator[Finding]:
    for part, images in parts_of(splits).items():
        missing = [name for name, count in counts_of(images).items() if not count]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            detail = f"The {part} part has no image of {names}. Add some, or remove the class."
            yield Finding("missing-class", "error", f"Classes missing in {part}", detail)


def _bad_files(splits: Splits) -> Iterator[Finding]:
    if splits.bad_files:
        title = f"{pluralize(len(splits.bad_files), 'file')} cannot be read"
        yield Finding(
            "bad-files",
            "warning",
            title,
            "They are left out here; `train` stops at them, unless told to --on-bad-file skip.",
            tuple(bad.path for bad in splits.bad_files),
            reasons=tuple(bad.reason for bad in splits.bad_files),
        )


def _too_small_for_near(splits: Splits) -> Iterator[Finding]:
    title = "Near copies were not looked for"
    detail = (
        f"Images of {splits.train.width}x{splits.train.height} pixels are too small to tell near "
        "copies from different images. Equal ones were looked for."
    )
    yield Finding("near-copies-not-sought", "info", title, detail)


def _class_shares(splits: Splits) -> Iterator[Finding]:
    """Classes that are rarer or more frequent in a part than in train, beyond chance."""
    for part, images in parts_of(splits).items():
        changed = _changed_shares(splits.train, images)
        if changed:
            pieces = [f"'{n}' is {theirs:.0%} of train and {ours:.0%} here" for n, theirs, ours in
                      changed[:3]]  # fmt: skip
            detail = (
                f"{'; '.join(pieces)}. An accuracy on it says little about images as in train; "
                "look at the recall of each class, or split again."
            )
            yield Finding("class-shares", "warning", f"{part} has other shares of classes", detail)


def _changed_shares(train: ImageSet, images: ImageSet) -> list[tuple[str, float, float]]:
    """Class, its share in train and in images; the most changed first."""
    ours, theirs = _share_of_each(images), _share_of_each(train)
    both = (ours * len(images) + theirs * len(train)) / max(1, len(images) + len(train))
    sizes = 1 / max(1, len(images)) + 1 / max(1, len(train))
    apart = np.abs(ours - theirs)
    is_changed = (apart > _SHARE_POINTS) & (
        apart > _SHARE_ERRORS * np.sqrt(both * (1 - both) * sizes)
    )
    order = np.argsort(-apart, kind="stable")
    names = train.class_names
    return [(names[k], float(theirs[k]), float(ours[k])) for k in order if is_changed[k]]


def _share_of_each(images: ImageSet) -> NDArray[np.float64]:
    counts = np.array(list(counts_of(images).values()), dtype=np.float64)
    shares: NDArray[np.float64] = counts / max(1, len(images))
    return shares


def _imbalance(splits: Splits) -> Iterator[Finding]:
    counts = {name: count for name, count in counts_of(splits.train).items() if count}
    if not counts:
        return
    most, least = max(counts, key=lambda n: counts[n]), min(counts, key=lambda n: counts[n])
    ratio = counts[most] / counts[least]
    if ratio >= _IMBALANCE:
        detail = (
            f"'{most}' has {counts[most]:,} training images, '{least}' {counts[least]:,}. "
            f"Always saying '{most}' is right {counts[most] / sum(counts.values()):.0%} of the "
            "time; look at the recall of each class, not at the accuracy alone. With "
            "train.sampling or train.class_weights = 'balanced' each class counts alike."
        )
        yield Finding("imbalance", "warning", f"Classes differ {ratio:.1f} times in size", detail)


def _constant(looks: Looks, whole: Everything) -> Iterator[Finding]:
    if looks.is_constant.any():
        ids = _named(whole, looks.is_constant)
        title = f"{pluralize(len(ids), 'image')} of a single colour"
        detail = "Nothing can be seen in them: placeholders, or 16-bit files of a narrow range."
        yield Finding("constant", "warning", title, detail, ids)


def _sizes(splits: Splits, whole: Everything) -> Iterator[Finding]:
    """What the files' own sizes say, before everything was brought to one size."""
    if whole.sizes is None or not len(whole):
        return
    height, width = whole.sizes.astype(np.float64).T
    tiny = np.minimum(height / splits.train.height, width / splits.train.width)
    is_tiny = tiny * _LARGEST_ENLARGEMENT < 1
    if is_tiny.any():
        ids = _named(whole, is_tiny)
        title = f"{pluralize(len(ids), 'tiny image')}"
        detail = (
            f"They are enlarged more than {_LARGEST_ENLARGEMENT:.0f} times to reach "
            f"{splits.train.width}x{splits.train.height} pixels, and blurred by that."
        )
        yield Finding("tiny", "warning", title, detail, ids)
    middle = f"{np.median(width):.0f}x{np.median(height):.0f}"
    side, aspect = np.sqrt(height * width), width / height
    for kind, values, limit, words in (
        ("odd-size", side, _ODD_SIDE, f"{_ODD_SIDE:.0f} times larger or smaller a side"),
        ("odd-aspect", aspect, _ODD_ASPECT, f"{_ODD_ASPECT:.0f} times wider or taller in shape"),
    ):
        is_odd = np.abs(np.log(values / np.median(values))) > math.log(limit)
        if is_odd.any():
            ids = _named(whole, is_odd)
            detail = (
                f"More than {words} than the median of {middle} pixels. data.resize says what "
                "becomes of them: crop keeps the middle, letterbox and stretch keep all."
            )
            yield Finding(
                kind, "info", f"{pluralize(len(ids), 'image')} of unusual {kind[4:]}", detail, ids
            )
    small, large = np.argmin(side), np.argmax(side)
    yield Finding(
        "sizes",
        "info",
        f"Files are {middle} pixels in the median",
        f"From {width[small]:.0f}x{height[small]:.0f} to {width[large]:.0f}x{height[large]:.0f}.",
    )


def _odd_files(splits: Splits) -> Iterator[Finding]:
    """Files that are read in a way that their owner may not expect, by the remark."""
    by_remark: dict[str, list[str]] = {}
    for odd in splits.odd_files:
        by_remark.setdefault(odd.remark, []).append(odd.id)
    for remark, ids in sorted(by_remark.items(), key=lambda item: -len(item[1])):
        title = f"{pluralize(len(ids), 'file')} {'is' if len(ids) == 1 else 'are'} odd"
        yield Finding("odd-files", "info", title, f"{remark[0].upper()}{remark[1:]}.", tuple(ids))


def _resolutions(splits: Splits) -> Iterator[Finding]:
    """Which differences validation and test can tell from chance."""
    for part in ("validation", "test"):
        count = len(parts_of(splits)[part])
        tells = resolution(count)
        level: Level = "warning" if tells.alone > _COARSE else "info"
        detail = (
            f"With {count:,} images, an accuracy of 80 % is known to ± {100 * tells.alone:.1f} "
            "points (1.96 √(p(1-p)/n)). Two classifiers on the same images, of which 10 % make "
            f"just one of them right, are told apart from {100 * tells.paired:.1f} points on "
            f"(1.96 √(0.1/n)); on different images from {100 * tells.unpaired:.1f} "
            "(1.96 √(2p(1-p)/n))."
        )
        title = f"{part} can only tell differences above {100 * tells.paired:.1f} points"
        yield Finding("resolution", level, title, detail)


def _counts(splits: Splits) -> Iterator[Finding]:
    for part, images in parts_of(splits).items():
        counts = counts_of(images)
        title = f"{part}: {len(images):,} images in {len(counts)} classes"
        yield Finding("counts", "info", title, f"{_listed(counts)}.")


def _listed(counts: Mapping[str, int], most: int = 20) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _named(whole: Everything, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(whole.ids[chosen].tolist())
