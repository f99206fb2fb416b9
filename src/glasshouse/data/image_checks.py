"""Problems that the images of a source may have, most serious first."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.bit_depth import explain_narrow
from glasshouse.data.class_names import describe_similar, often_missing, similar_names
from glasshouse.data.duplicates import exact_duplicates, near_duplicates
from glasshouse.data.findings import (
    LEVELS,
    AllImages,
    Finding,
    Level,
    all_images,
    by_split,
    counts_of,
)
from glasshouse.data.image_hashes import thumbnails_of
from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.placeholders import PLACEHOLDER_RULE, placeholders_in
from glasshouse.errors import require_type
from glasshouse.wording import first_of, percentage, pluralize

# The most frequent class has this many times the images of the rarest.
_IMBALANCE = 3.0
# Half a confidence interval wider than this makes an accuracy hard to interpret.
_COARSE = 0.05
_Z95 = 1.959964
# A class share differs between two splits when it does so by this many points and by more standard
# errors than chance explains.
_SHARE_POINTS, _SHARE_ERRORS = 0.05, 3.0
_SHARE_RULE = (
    f"Reported where a share differs by more than {100 * _SHARE_POINTS:.0f} percentage points and "
    f"by more than {_SHARE_ERRORS:.0f} standard errors of a difference between two proportions."
)
_RESOLUTION_RULE = (
    "n images, accuracy p = 80 %: ± 1.96 √(p(1-p)/n) for one accuracy. Same images, exactly one of "
    "two classifiers right on a share d = 10 % of them: 1.96 √(d/n) (McNemar). Different images: "
    "1.96 √(2p(1-p)/n)."
)
# A thumbnail has 16x16 pixels; smaller images would be enlarged and all look alike.
_SMALLEST_FOR_NEAR = 16
_LARGEST_ENLARGEMENT = 4.0
_ODD_SIDE, _ODD_ASPECT = 4.0, 2.0


@dataclass(frozen=True)
class Resolution:
    """The smallest differences of accuracy that n images can detect at 95 %, as shares.

    alone: half the confidence interval of one accuracy p, ``1.96 sqrt(p (1 - p) / n)``. unpaired:
    between two classifiers on different images, ``1.96 sqrt(2 p (1 - p) / n)``. paired: between two
    classifiers on the same images, where exactly one of them is right on a share d of the images,
    ``1.96 sqrt(d / n)`` (McNemar).
    """

    alone: float
    unpaired: float
    paired: float


def check(splits: Splits) -> tuple[Finding, ...]:
    """Everything worth knowing about the images before training, errors first.

    Raises DataError for splits with other classes, sizes or kinds of labels.
    """
    require_type(splits, Splits, "splits, such as load_splits returns")
    sets, whole = list(by_split(splits).values()), all_images(splits)
    is_close = min(splits.train.height, splits.train.width) >= _SMALLEST_FOR_NEAR
    digests = _digests(splits)
    return _ordered(
        [
            *_missing_classes(splits),
            *_bad_files(splits),
            *_class_names(splits),
            *exact_duplicates(digests, whole),
            *(
                near_duplicates(digests, thumbnails_of(sets), whole)
                if is_close
                else _too_small_for_near(splits)
            ),
            *_class_shares(splits),
            *_imbalance(splits),
            *_constant(splits, whole),
            *_placeholders(splits, whole),
            *_sizes(splits, whole),
            *_narrow_files(splits),
            *_odd_files(splits),
            *_resolutions(splits),
            *_counts(splits),
        ]
    )


def blocking(splits: Splits) -> tuple[Finding, ...]:
    """The errors alone, which stop training; needs no pass of its own over the pixels."""
    found = [*_missing_classes(splits), *exact_duplicates(_digests(splits), all_images(splits))]
    return tuple(finding for finding in found if finding.level == "error")


def resolution(count: int, *, accuracy: float = 0.8, disagreement: float = 0.1) -> Resolution:
    """The differences that count images can detect; accuracy and disagreement in 0..1."""
    spread = accuracy * (1 - accuracy) / max(1, count)
    return Resolution(
        alone=_Z95 * math.sqrt(spread),
        unpaired=_Z95 * math.sqrt(2 * spread),
        paired=_Z95 * math.sqrt(disagreement / max(1, count)),
    )


def _digests(splits: Splits) -> list[bytes]:
    """The digest of every image, one split after the other."""
    return [row.tobytes() for images in by_split(splits).values() for row in images.survey.digests]


def _ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def _missing_classes(splits: Splits) -> Iterator[Finding]:
    for name, images in by_split(splits).items():
        missing = [label for label, count in counts_of(images).items() if not count]
        if missing:
            names = ", ".join(f"'{label}'" for label in missing)
            detail = f"The {name} split has no image of {names}. Add some, or remove the class."
            yield Finding("missing-class", "error", f"Classes missing in {name}", detail)


def _bad_files(splits: Splits) -> Iterator[Finding]:
    if splits.bad_files:
        yield Finding(
            kind="bad-files",
            level="warning",
            title=f"{pluralize(len(splits.bad_files), 'file')} cannot be read",
            detail="They are skipped here; training stops at them unless --on-bad-file is skip.",
            ids=tuple(bad.path for bad in splits.bad_files),
            reasons=tuple(bad.reason for bad in splits.bad_files),
        )


def _class_names(splits: Splits) -> Iterator[Finding]:
    """Names that may be one class, and names that may be none."""
    groups = similar_names(splits.class_names)
    if groups:
        title = f"Class names look alike ({pluralize(len(groups), 'group')})"
        yield Finding("similar-class-names", "warning", title, describe_similar(groups))
    doubtful = often_missing(splits.class_names)
    if doubtful:
        names = ", ".join(f"'{name}'" for name in doubtful)
        detail = f"Programs write {names} where a label is missing. If so, label these images."
        yield Finding("missing-labels", "info", "A class may stand for missing labels", detail)


def _too_small_for_near(splits: Splits) -> Iterator[Finding]:
    detail = (
        f"At {splits.train.width}x{splits.train.height} pixels, near-duplicates cannot be told "
        "from different images. Exact duplicates were checked."
    )
    title = "Near-duplicates were not checked"
    yield Finding("near-duplicates-not-checked", "info", title, detail)


def _class_shares(splits: Splits) -> Iterator[Finding]:
    """Classes that are rarer or more frequent in a split than in train, beyond chance."""
    for name, images in by_split(splits).items():
        changed = _changed_shares(splits.train, images)
        if changed:
            pieces = [
                f"'{name}' is {percentage(theirs, 0)} of train and {percentage(ours, 0)} here"
                for name, theirs, ours in changed[:3]
            ]
            detail = (
                f"{'; '.join(pieces)}. An accuracy on it says little about images distributed as "
                "in train; look at the recall of each class, or split again."
            )
            title = f"The {name} split has other class proportions than train"
            yield Finding("class-shares", "warning", title, detail, formula=_SHARE_RULE)


def _changed_shares(train: ImageSet, images: ImageSet) -> list[tuple[str, float, float]]:
    """Class, its share in train and in images; the largest change first."""
    ours, theirs = _share_of_each(images), _share_of_each(train)
    both = (ours * len(images) + theirs * len(train)) / max(1, len(images) + len(train))
    sizes = 1 / max(1, len(images)) + 1 / max(1, len(train))
    apart = np.abs(ours - theirs)
    # The standard error of a difference of two proportions, pooled as if both were the same.
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
    if ratio >= _IMBALANCE and splits.train.is_multi_label:
        detail = (
            f"'{most}' is a label of {counts[most]:,} training images, '{least}' of "
            f"{counts[least]:,}; look at the average precision of each label, not only at the mean."
        )
        title = f"The most frequent label is on {ratio:.1f} times the images of the rarest"
        yield Finding("imbalance", "warning", title, detail)
    elif ratio >= _IMBALANCE:
        always = counts[most] / sum(counts.values())
        detail = (
            f"'{most}' has {counts[most]:,} training images, '{least}' {counts[least]:,}. "
            f"Always predicting '{most}' is right {percentage(always, 0)} of the time; look at the "
            "recall of each class, not only at the accuracy. With "
            "train.sampling or train.class_weights = 'balanced', all classes count equally."
        )
        yield Finding(
            "imbalance",
            "warning",
            f"The largest class has {ratio:.1f} times the images of the smallest",
            detail,
        )


def _constant(splits: Splits, whole: AllImages) -> Iterator[Finding]:
    is_constant = np.concatenate(
        [images.survey.is_constant for images in by_split(splits).values()]
    )
    if is_constant.any():
        ids = _ids(whole, is_constant)
        title = f"{pluralize(len(ids), 'image')} of a single colour"
        detail = "They show nothing: placeholders, or 16-bit files with a narrow range of values."
        yield Finding("constant", "warning", title, detail, ids)


def _placeholders(splits: Splits, whole: AllImages) -> Iterator[Finding]:
    is_placeholder = np.concatenate(
        [placeholders_in(images) for images in by_split(splits).values()]
    )
    if is_placeholder.any():
        ids = _ids(whole, is_placeholder)
        are = "looks like a placeholder" if len(ids) == 1 else "look like placeholders"
        yield Finding(
            "placeholders",
            "warning",
            f"{pluralize(len(ids), 'image')} {are}",
            "A flat grey or white card with text or an icon, such as 'image not found', in place "
            "of a photo. Remove it, or the network learns it as an example of its class.",
            ids,
            formula=PLACEHOLDER_RULE,
        )


def _sizes(splits: Splits, whole: AllImages) -> Iterator[Finding]:
    """What the sizes of the files say, before all images were resized."""
    if whole.sizes is None or not len(whole):
        return
    height, width = whole.sizes.astype(np.float64).T
    tiny = np.minimum(height / splits.train.height, width / splits.train.width)
    is_tiny = tiny * _LARGEST_ENLARGEMENT < 1
    if is_tiny.any():
        ids = _ids(whole, is_tiny)
        title = f"{pluralize(len(ids), 'tiny image')}"
        detail = (
            f"They are enlarged more than {_LARGEST_ENLARGEMENT:.0f} times to reach "
            f"{splits.train.width}x{splits.train.height} pixels, which blurs them."
        )
        yield Finding("tiny", "warning", title, detail, ids)
    middle = f"{np.median(width):.0f}x{np.median(height):.0f}"
    side, aspect = np.sqrt(height * width), width / height
    for kind, what, values, limit, words in (
        ("odd-size", "size", side, _ODD_SIDE, f"{_ODD_SIDE:.0f} times larger or smaller per side"),
        ("odd-aspect", "shape", aspect, _ODD_ASPECT, f"{_ODD_ASPECT:.0f} times wider or taller"),
    ):
        is_odd = np.abs(np.log(values / np.median(values))) > math.log(limit)
        if is_odd.any():
            ids = _ids(whole, is_odd)
            detail = (
                f"More than {words} than the median of {middle} pixels. data.resize decides how "
                "they are resized: crop keeps the centre, letterbox and stretch keep everything."
            )
            yield Finding(
                kind, "info", f"{pluralize(len(ids), 'image')} of unusual {what}", detail, ids
            )
    small, large = (f"{width[i]:.0f}x{height[i]:.0f}" for i in (np.argmin(side), np.argmax(side)))
    is_one = np.ptp(height) == 0 == np.ptp(width)
    detail = "All files have this size." if is_one else f"From {small} to {large}."
    yield Finding("sizes", "info", f"The median file has {middle} pixels", detail)


def _narrow_files(splits: Splits) -> Iterator[Finding]:
    """Files of more than 8 bits per value that keep few of 256 grey levels."""
    if splits.narrow_files:
        ids, values = zip(*splits.narrow_files, strict=True)
        title = f"{pluralize(len(ids), 'file')} with few grey levels"
        detail = explain_narrow(len(ids))
        yield Finding("narrow-range", "warning", title, detail, ids, reasons=values)


def _odd_files(splits: Splits) -> Iterator[Finding]:
    """Files that are read in a way that their owner may not expect, grouped by remark."""
    by_remark: dict[str, list[str]] = {}
    for odd in splits.odd_files:
        by_remark.setdefault(odd.remark, []).append(odd.id)
    for remark, ids in sorted(by_remark.items(), key=lambda item: -len(item[1])):
        title = f"{pluralize(len(ids), 'unusual file')}"
        yield Finding("odd-files", "info", title, f"{remark[0].upper()}{remark[1:]}.", tuple(ids))


def _resolutions(splits: Splits) -> Iterator[Finding]:
    """The smallest differences that validation and test can detect."""
    for name in ("validation", "test"):
        count = len(by_split(splits)[name])
        smallest = resolution(count)
        level: Level = "warning" if smallest.alone > _COARSE else "info"
        detail = (
            f"With {count:,} images, an accuracy of 80 % is known to ± {100 * smallest.alone:.1f} "
            "percentage points. Of two classifiers tested on these images, one is reliably better "
            f"if it leads by {100 * smallest.paired:.1f} points or more; tested on different "
            f"images, by {100 * smallest.unpaired:.1f}. More images make smaller differences "
            "visible."
        )
        points = f"{100 * smallest.paired:.1f} percentage points"
        title = f"The {name} split can only detect differences above {points}"
        yield Finding("resolution", level, title, detail, formula=_RESOLUTION_RULE)


def _counts(splits: Splits) -> Iterator[Finding]:
    for name, images in by_split(splits).items():
        counts = counts_of(images)
        title = f"{name}: {len(images):,} images in {len(counts)} classes"
        if images.is_multi_label:
            bare = int((~images.label_matrix.any(axis=1)).sum())
            title = f"{name}: {len(images):,} images with {len(counts)} labels; {bare:,} have none"
        yield Finding("counts", "info", title, f"{_listed(counts)}.")


def _listed(counts: Mapping[str, int], most: int = 20) -> str:
    return first_of([f"{name}: {count:,}" for name, count in counts.items()], most)


def _ids(whole: AllImages, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(whole.ids[chosen].tolist())
