"""How well a possible shortcut alone tells the class, without anything else of the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.data.splits import limit
from glasshouse.explanation.shortcuts.class_cues import ClassCues
from glasshouse.explanation.shortcuts.exchange import Kind

Floats = NDArray[np.float64]

_PERCENTILES = (2, 25, 50, 75, 98)
# A few thousand images are enough for a linear classifier of a few numbers.
_MOST = 3000


@dataclass(frozen=True)
class CueOnly:
    """A linear classifier that sees only the cue, fitted to training and tested on other images.

    accuracy: of all classes, and that of guessing, 0..1; f1 ``(k,)``: of each class.
    """

    accuracy: float
    chance: float
    f1: Floats

    @property
    def gain(self) -> float:
        """What the cue tells: 0 like guessing, 1 like the label itself."""
        return max(0.0, (self.accuracy - self.chance) / max(1e-9, 1 - self.chance))


def cue_only(
    reference: ImageSet,
    images: ImageSet,
    cues: ClassCues,
    *,
    kind: Kind,
    mask: NDArray[np.bool_] | None = None,
) -> CueOnly:
    """Fit the cue of reference images, and classify the others by it alone.

    mask ``(h, w)``: the place; unset: the whole image.
    """
    # scikit-learn takes a second to import, which no other command should wait for.
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import f1_score

    rows = np.sort(limit(reference.ids, reference.labels, min(_MOST, len(reference)), seed=0))
    labels = reference.labels[rows]
    # A class of one image has no spread.
    rows = rows[np.bincount(labels)[labels] >= 2]
    labels = reference.labels[rows]
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3)
    model.fit(_numbers(np.asarray(reference.pixels[rows]), cues, kind, mask), labels)
    found = model.predict(_numbers(images.pixels, cues, kind, mask))
    known = range(len(images.class_names))
    f1 = f1_score(images.labels, found, labels=list(known), average=None, zero_division=0)
    commonest = np.bincount(images.labels).max() / len(images)
    accuracy = float((found == images.labels).mean())
    return CueOnly(accuracy, float(commonest), np.asarray(f1, dtype=np.float64))


def _numbers(
    pixels: NDArray[np.uint8], cues: ClassCues, kind: Kind, mask: NDArray[np.bool_] | None
) -> Floats:
    """The few numbers ``(n, m)`` that describe the cue of each image."""
    if kind == "pattern":
        return _fit_of_patterns(pixels, cues)
    flat = pixels.reshape(len(pixels), 3, -1)
    chosen = flat if mask is None else flat[:, :, mask.ravel()]
    levels = np.moveaxis(np.percentile(chosen, _PERCENTILES, axis=2), 0, 1)
    numbers = levels.reshape(len(pixels), -1)
    # A cue without any spread has no covariance; pixels are only known to half a level anyway.
    dither: Floats = numbers + np.random.default_rng(0).uniform(-0.5, 0.5, numbers.shape)
    return dither


def _fit_of_patterns(pixels: NDArray[np.uint8], cues: ClassCues) -> Floats:
    """How much of the pattern of each class is in each image."""
    patterns = cues.patterns - cues.patterns.mean(axis=0)
    flat = patterns.reshape(len(patterns), -1).astype(np.float64)
    norms = np.maximum(np.linalg.norm(flat, axis=1), 1e-6)
    fits: Floats = (pixels.reshape(len(pixels), -1) @ flat.T) / norms
    return fits
