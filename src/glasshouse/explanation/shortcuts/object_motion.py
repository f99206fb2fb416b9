"""Whether what the images of a class have in common at a place is a cue, or a part of the object.

A tag or text is at the same place to the pixel. Objects that are aligned, such as scanned digits,
have a mean image with fine detail as well, but each is a little further up, down, left or right.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.explanation.shortcuts.class_cues import fine_detail

Floats = NDArray[np.float32]
Masks = Mapping[str, NDArray[np.bool_]]

# Of scanned digits, 1.0 for the whole image and 0.38 to 0.59 at the edge that they reach. Of text,
# tags and borders planted in ten classes of CIFAR-10 and of generated shapes, -1.4 to 0.21.
MOVES = 0.35
_CLASSES, _IMAGES_OF_CLASS, _FEWEST = 30, 200, 8
_BLOCK = 64


def object_motions(images: ImageSet, masks: Masks) -> dict[str, float]:
    """By place, how much more the images of a class vary along displacements of their own pattern.

    The natural logarithm of their variance along the two derivatives of the fine detail of the
    class's mean image, over the same along those of other classes. About 0 or less for what is
    fixed, and 0 where too few images tell. masks: each ``(h, w)``.
    """
    halves = _halves(images)
    if len(halves) < 2:
        return dict.fromkeys(masks, 0.0)
    # Along the pattern of the other half, which the noise of the measured images is not in.
    both = [
        _motions(
            images, [pair[side] for pair in halves], [pair[1 - side] for pair in halves], masks
        )
        for side in (0, 1)
    ]
    return {name: (both[0][name] + both[1][name]) / 2 for name in masks}


def _halves(images: ImageSet) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows of each class in two halves; of classes with too few images none."""
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    labels = [label for label in np.argsort(-counts, kind="stable") if counts[label] >= _FEWEST]
    rows = [images.rows_with(int(label))[:_IMAGES_OF_CLASS] for label in labels[:_CLASSES]]
    return [(each[::2], each[1::2]) for each in rows]


def _motions(
    images: ImageSet,
    shown: list[NDArray[np.int64]],
    measured: list[NDArray[np.int64]],
    masks: Masks,
) -> dict[str, float]:
    patterns = np.stack([fine_detail(_mean(images, rows)) for rows in shown])
    moved = np.stack([np.gradient(patterns, axis=axis) for axis in (2, 3)])
    found = {}
    for name, mask in masks.items():
        weights = (patterns[:, :, mask] ** 2).sum(axis=(1, 2))
        steps = moved[:, :, :, mask].reshape(2, len(patterns), -1)
        steps = steps / np.maximum(np.linalg.norm(steps, axis=2, keepdims=True), 1e-6)
        spreads = np.stack([_spread(images, rows, mask, steps) for rows in measured])
        # A place without any variance, such as the black margin of scans, tells nothing.
        spreads = spreads + 1e-3
        own = np.diag(spreads)
        others = (spreads.sum(axis=1) - own) / (len(spreads) - 1)
        total = max(float(weights.sum()), 1e-9)
        found[name] = float((weights * np.log(own / others)).sum()) / total
    return found


def _mean(images: ImageSet, rows: NDArray[np.int64]) -> Floats:
    mean: Floats = np.asarray(images.pixels[rows]).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _spread(
    images: ImageSet, rows: NDArray[np.int64], mask: NDArray[np.bool_], steps: Floats
) -> NDArray[np.float64]:
    """The variance of images along the steps ``(2, k, m)`` of each class, ``(k,)``."""
    flat = steps.reshape(-1, steps.shape[-1]).T
    blocks = [
        np.asarray(images.pixels[rows[start : start + _BLOCK]])[:, :, mask]
        for start in range(0, len(rows), _BLOCK)
    ]
    seen = [block.reshape(len(block), -1).astype(np.float32) @ flat for block in blocks]
    along = np.concatenate(seen).astype(np.float64).var(axis=0)
    spread: NDArray[np.float64] = along.reshape(2, -1).sum(axis=0)
    return spread
