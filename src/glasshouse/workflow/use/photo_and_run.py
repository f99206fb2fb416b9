"""What a photo has to do with the images of a run: is it unlike all of them, and which are near."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier
from glasshouse.workflow.use.known_images import KnownImages, features_of, known_images
from glasshouse.workflow.use.similar_images import Similar, similar_images
from glasshouse.workflow.use.unknown_images import Familiarity, familiarity


@dataclass(frozen=True)
class Resemblance:
    """How familiar one photo is to a classifier; if asked for, the training images near it."""

    familiarity: Familiarity
    similar: Similar | None = None

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        found: dict[str, Any] = {"unknown": self.familiarity.as_json()}
        return found if self.similar is None else {**found, "similar": self.similar.as_json()}

    def sentence(self, *, is_answered: bool) -> str:
        """How familiar the photo is, and what follows; is_answered: as in lines."""
        advice = "do not rely on the answer" if is_answered else "no class is named"
        return self.familiarity.words() + (f"; {advice}" if self.familiarity.is_unknown else "")

    def lines(self, *, is_answered: bool) -> Iterator[str]:
        """The same for people; is_answered: whether a class is named all the same."""
        yield self.sentence(is_answered=is_answered)
        for near in () if self.similar is None else self.similar.as_json():
            yield f"resembles {near['label']} ({near['distance']:.3f}): {near['image']}"


@dataclass(frozen=True)
class RunComparison:
    """Compares photos with the images of the run that a classifier comes from."""

    classifier: Classifier
    known: KnownImages
    body: nn.Module

    @classmethod
    def of(
        cls,
        run: Path,
        classifier: Classifier,
        *,
        data_dir: Path | None = None,
        offline: bool = False,
        splits: Splits | None = None,
    ) -> "RunComparison":
        """Read, or compute once, what the network makes of the run's images.

        splits: those images, where they are loaded already. Raises what `known_images` raises.
        """
        known = known_images(run, classifier, data_dir=data_dir, offline=offline, splits=splits)
        return cls(classifier, known, backbone_of(classifier.net))

    def compare(
        self, pixels: NDArray[np.uint8], logits: NDArray[np.floating[Any]], *, similar: bool = True
    ) -> list[Resemblance]:
        """For each photo ``(n, 3, h, w)`` with logits ``(n, k)``; similar: with training images."""
        features = features_of(self.body, self.classifier.preprocessing, pixels)
        several = self.classifier.is_multi_label
        judged = familiarity(self.known, pixels, features, logits, several=several)
        if not similar:
            return [Resemblance(each) for each in judged]
        near = similar_images(self.known, features)
        return [Resemblance(*pair) for pair in zip(judged, near, strict=True)]
