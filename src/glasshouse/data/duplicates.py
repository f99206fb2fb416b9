"""Findings on images that a source has more than once: exact duplicates and near-duplicates."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import SPLIT_NAMES, TEST, AllImages, Finding, Level
from glasshouse.data.image_hashes import LEAST_LIKENESS, MOST_BITS, Thumbnails, near_pairs
from glasshouse.wording import percentage, pluralize

# Duplicates of less than this share of the test images cannot move the accuracy by a point.
BLOCKING_SHARE = 0.01
_LOOK = "Look at them: drawings and symbols can be alike without being duplicates."
_NEAR_RULE = (
    f"Hashes of the coarse structure differ in at most {MOST_BITS} of 64 bits, and the edges of "
    f"the grey thumbnails correlate by {LEAST_LIKENESS} or more."
)

Group = tuple[int, ...]


def equal_groups(digests: Sequence[bytes]) -> list[Group]:
    """Positions of equal images, two or more in a group."""
    places: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        places.setdefault(digest, []).append(position)
    return [tuple(group) for group in places.values() if len(group) > 1]


def exact_duplicates(digests: Sequence[bytes], whole: AllImages) -> Iterator[Finding]:
    """Equal images with different labels, in two splits, or twice in one split.

    Those that could move an accuracy by a point or more are errors.
    """
    found = (_distinct(group, whole) for group in equal_groups(digests))
    groups = [group for group in found if len(group) > 1]
    disputed = [group for group in groups if _has_several_labels(group, whole)]
    if disputed:
        share = float(_shares(disputed, whole).max())
        yield _finding(
            "contradicting-duplicates",
            "error" if share >= BLOCKING_SHARE else "warning",
            f"{pluralize(len(disputed), 'image')} with contradicting labels",
            "Equal images have different labels, so at least one label in each group is wrong. "
            f"They are up to {percentage(share, 2)} of a split.",
            (disputed, whole),
        )
    leaked = [group for group in groups if _spans_splits(group, whole)]
    if leaked:
        share = _test_share(leaked, whole)
        yield _finding(
            "leaked-duplicates",
            "error" if share >= BLOCKING_SHARE else "warning",
            f"{pluralize(len(leaked), 'image')} in more than one split",
            "The network is tested on images that it was trained on or selected by. "
            f"{_effect(share)} Keep each image in one split only.",
            (leaked, whole),
        )
    repeated = [group for group in groups if _repeats(group, whole)]
    if repeated:
        yield _finding(
            "repeated-duplicates",
            "warning",
            f"{pluralize(len(repeated), 'image')} more than once in a split",
            "They count twice in training or in the metrics. Remove all but one.",
            (repeated, whole),
        )


def near_duplicates(
    digests: Sequence[bytes], thumbnails: Thumbnails, whole: AllImages
) -> Iterator[Finding]:
    """The same for nearly equal images: another size, colour, crop or compression."""
    pairs: list[Group] = list(near_pairs(digests, thumbnails))
    disputed = [pair for pair in pairs if _has_several_labels(pair, whole)]
    if disputed:
        yield _finding(
            "contradicting-near-duplicates",
            "warning",
            f"{pluralize(len(disputed), 'pair')} of near-duplicates with different labels",
            f"One label of each pair is probably wrong. {_LOOK}",
            (disputed, whole),
        )
    leaked = [pair for pair in pairs if _spans_splits(pair, whole)]
    if leaked:
        share = _test_share(leaked, whole)
        yield _finding(
            "leaked-near-duplicates",
            "warning",
            f"{pluralize(len(leaked), 'pair')} of near-duplicates in different splits",
            "The network is tested on images much like those that it was trained on or selected "
            f"by. {_effect(share)} {_LOOK}",
            (leaked, whole),
        )
    repeated = [pair for pair in pairs if _repeats(pair, whole)]
    if repeated:
        yield _finding(
            "repeated-near-duplicates",
            "info",
            f"{pluralize(len(repeated), 'pair')} of near-duplicates in the same split",
            f"They count double in training or in the metrics. {_LOOK}",
            (repeated, whole),
        )


def _distinct(group: Group, whole: AllImages) -> Group:
    """One position per image: with train_on_validation an image is in two splits on purpose."""
    places = {str(whole.ids[place]): place for place in reversed(group)}
    return tuple(sorted(places.values()))


def _has_several_labels(group: Group, whole: AllImages) -> bool:
    return len(set(whole.labels[list(group)].tolist())) > 1


def _spans_splits(group: Group, whole: AllImages) -> bool:
    return len(set(whole.split_numbers[list(group)].tolist())) > 1


def _repeats(group: Group, whole: AllImages) -> bool:
    """True when one split has two images of the group."""
    return len(set(whole.split_numbers[list(group)].tolist())) < len(group)


def _test_share(groups: Sequence[Group], whole: AllImages) -> float:
    """The share of the test images that are in these groups: 0..1."""
    return float(_shares(groups, whole)[TEST])


def _shares(groups: Sequence[Group], whole: AllImages) -> NDArray[np.float64]:
    """The share of each split's images that are in these groups."""
    places = np.unique([place for group in groups for place in group])
    found = np.bincount(whole.split_numbers[places], minlength=len(SPLIT_NAMES))
    shares: NDArray[np.float64] = found / np.maximum(
        np.bincount(whole.split_numbers, minlength=len(SPLIT_NAMES)), 1
    )
    return shares


def _effect(share: float) -> str:
    if share == 0:
        return "No test image is among them."
    return (
        f"They are {percentage(share, 2)} of the test images: the accuracy may be up to "
        f"{100 * share:.2f} points too high."
    )


def _finding(
    kind: str, level: Level, title: str, detail: str, about: tuple[Sequence[Group], AllImages]
) -> Finding:
    groups, whole = about
    formula = _NEAR_RULE if "near" in kind else "Equal means that every pixel is the same."
    named = tuple(tuple(str(whole.ids[place]) for place in group) for group in groups)
    ids = tuple(dict.fromkeys(image for group in named for image in group))
    return Finding(
        kind=kind,
        level=level,
        title=title,
        detail=detail,
        ids=ids,
        groups=named,
        formula=formula,
    )
