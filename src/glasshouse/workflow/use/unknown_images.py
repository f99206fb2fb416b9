"""Whether a photo is unlike anything that a classifier was trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.models.unusual_scores import RARE, UnusualScore
from glasshouse.workflow.use.known_images import KnownImages

_WORDS: dict[UnusualScore, str] = {
    "nearest": "distance from the training images",
    "mahalanobis": "distance from every class",
    "energy": "lack of likeness to any class",
    "softmax": "uncertainty of the answer",
}


@dataclass(frozen=True)
class Familiarity:
    """How unusual one photo is for a classifier, by its appearance and the best score.

    as_unusual: how many of the validation images are at least as unusual, among how many.
    """

    score: UnusualScore
    value: float
    as_unusual: int
    among: int

    @property
    def p_value(self) -> float | None:
        """The share of the images that are as unusual, this photo among them; None without any.

        For a photo like the validation images, it is below 0.05 in 5 % of the cases.
        """
        return (self.as_unusual + 1) / (self.among + 1) if self.among else None

    @property
    def is_unknown(self) -> bool:
        """Whether the photo is unlike what the classifier was trained on."""
        return self.p_value is not None and self.p_value < RARE

    @property
    def can_tell(self) -> bool:
        """Whether there are enough validation images for any photo to be unlike them."""
        return 1 / (self.among + 1) < RARE

    def words(self) -> str:
        """The same as a sentence."""
        if not self.among:
            return "no validation images were held out, so nothing says whether it is unusual"
        said = "unlike anything it was trained on" if self.is_unknown else "not unusual"
        if not self.can_tell:
            said = "too few validation images to tell whether it is unusual"
        found = f"{self.as_unusual:,} of {self.among:,} validation images"
        return f"{said}: {found} are as unusual in appearance and {_WORDS[self.score]}"

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "is_unknown": self.is_unknown,
            "p_value": self.p_value,
            "score": self.score,
            "value": self.value,
            "words": self.words(),
        }


def familiarity(
    known: KnownImages,
    pixels: NDArray[np.uint8],
    features: NDArray[np.float32],
    logits: NDArray[np.floating[Any]],
    *,
    several: bool,
) -> list[Familiarity]:
    """How unusual each photo is, by its pixels, features ``(n, d)`` and logits ``(n, k)``.

    several: whether an image may have several labels.
    """
    best, among = known.best_score, len(known.usual["nearest"])
    values = known.unusual(pixels, features, logits, several=several)
    return [
        Familiarity(best, value, known.as_unusual(best, value), among) for value in values.tolist()
    ]
