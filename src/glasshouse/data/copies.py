"""Findings on images that stand more than once in a source: equal ones, and nearly equal ones."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import PARTS, TEST, Everything, Finding, Level
from glasshouse.data.looks import Looks, equal_groups, near_pairs
from glasshouse.wording import pluralize

# Below this share of the test images, copies cannot move the accuracy by a point.
BLOCKING_SHARE = 0.01
_LOOK = "Look at them: drawings and symbols can be alike without being copies."

Group = tuple[int, ...]


def equal_copies(looks: Looks, whole: Everything) -> Iterator[Finding]:
    """Equal images: with different labels, in two parts, or twice in one.

    Those that could move an accuracy by a point or more are errors.
    """
    found = (_distinct(group, whole) for group in equal_groups(looks.digests))
    groups = [group for group in found if len(group) > 1]
    disputed = [group for group in groups if len(set(whole.labels[list(group)])) > 1]
    if disputed:
        share = _largest_share(disputed, whole)
        yield _finding(
            "contradicting-copies",
            "error" if share >= BLOCKING_SHARE else "warning",
            f"{pluralize(len(disputed), 'image')} with contradicting labels",
            "Equal images have different labels, so that at least one of each group is wrong. "
            f"They are {share:.2%} of the part that has most of them.",
            (disputed, whole),
        )
    leaked = [group for group in groups if _spans_parts(group, whole)]
    if leaked:
        share = _test_share(leaked, whole)
        yield _finding(
            "leaked-copies",
            "error" if share >= BLOCKING_SHARE else "warning",
            f"{pluralize(len(leaked), 'image')} in more than one part",
            f"The net is tested on what it was trained on or chosen by. {_effect(share)} "
            "Remove one of each.",
            (leaked, whole),
        )
    repeated = [group for group in groups if _repeats(group, whole)]
    if repeated:
        yield _finding(
            "repeated-copies",
            "warning",
            f"{pluralize(len(repeated), 'image')} more than once in a part",
            "They count twice in training or in the figures. Remove all but one.",
            (repeated, whole),
        )


def near_copies(looks: Looks, whole: Everything) -> Iterator[Finding]:
    """The same of images that are nearly equal: other sizes, colours, crops or compressions."""
    pairs: list[Group] = list(near_pairs(looks))
    disputed = [pair for pair in pairs if len(set(whole.labels[list(pair)])) > 1]
    if disputed:
        yield _finding(
            "contradicting-near-copies",
            "warning",
            f"{pluralize(len(disputed), 'pair')} of near copies with different labels",
            f"One label of each pair is probably wrong. {_LOOK}",
            (disputed, whole),
        )
    leaked = [pair for pair in pairs if _spans_parts(pair, whole)]
    if leaked:
        share = _test_share(leaked, whole)
        yield _finding(
            "leaked-near-copies",
            "warning",
            f"{pluralize(len(leaked), 'pair')} of near copies in different parts",
            f"The net is tested on images much like those that it was trained on or chosen by. "
            f"{_effect(share)} {_LOOK}",
            (leaked, whole),
        )
    repeated = [pair for pair in pairs if _repeats(pair, whole)]
    if repeated:
        yield _finding(
            "repeated-near-copies",
            "info",
            f"{pluralize(len(repeated), 'pair')} of near copies in the same part",
            f"They weigh double in training or in the figures. {_LOOK}",
            (repeated, whole),
        )


def _distinct(group: Group, whole: Everything) -> Group:
    """One place of each image: with train_on_validation an image is in two parts by intent."""
    places = {str(whole.ids[place]): place for place in reversed(group)}
    return tuple(sorted(places.values()))


def _spans_parts(group: Group, whole: Everything) -> bool:
    return len(set(whole.parts[list(group)].tolist())) > 1


def _repeats(group: Group, whole: Everything) -> bool:
    """True when one part has two of the group."""
    return len(set(whole.parts[list(group)].tolist())) < len(group)


def _test_share(groups: Sequence[Group], whole: Everything) -> float:
    """The share of the test images that stand in these groups: 0..1."""
    return float(_shares(groups, whole)[TEST])


def _largest_share(groups: Sequence[Group], whole: Everything) -> float:
    return float(_shares(groups, whole).max())


def _shares(groups: Sequence[Group], whole: Everything) -> NDArray[np.float64]:
    places = np.unique([place for group in groups for place in group])
    found = np.bincount(whole.parts[places], minlength=len(PARTS))
    shares: NDArray[np.float64] = found / np.maximum(
        np.bincount(whole.parts, minlength=len(PARTS)), 1
    )
    return shares


def _effect(share: float) -> str:
    if share == 0:
        return "The test images are not among them."
    return (
        f"They are {share:.2%} of the test images: the accuracy may be up to {100 * share:.2f} "
        "points too high."
    )


def _finding(
    kind: str, level: Level, title: str, detail: str, about: tuple[Sequence[Group], Everything]
) -> Finding:
    groups, whole = about
    named = tuple(tuple(str(whole.ids[place]) for place in group) for group in groups)
    ids = tuple(dict.fromkeys(image for group in named for image in group))
    return Finding(kind, level, title, detail, ids, named)
