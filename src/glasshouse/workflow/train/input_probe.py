"""Which input size suits images smaller than a network was trained on, measured on a few."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.splits import limit
from glasshouse.errors import WrongInputSize
from glasshouse.models.backbone import ResizedInput
from glasshouse.models.classifier import Classifier
from glasshouse.models.stem import stem_of
from glasshouse.progress import Progress
from glasshouse.settings import PretrainedSettings, Recipe
from glasshouse.training.adapting import adapt, own_size
from glasshouse.training.features import extract, make_extractor
from glasshouse.training.heads import HeadSettings, best_head, fit_heads
from glasshouse.wording import percentage

# Images the probe uses, the input sizes it tries, and the gain in accuracy below which it stops.
_TRAIN, _VALIDATION = 600, 400
_SIZES = (64, 96, 128, 160, 192, 224)
_WORTH = 0.01


@dataclass(frozen=True)
class Look:
    """An input size in pixels per side, and a stem; cost: the size that costs as much."""

    size: int
    stem: Literal["kept", "fine"] = "kept"
    cost: int = 0

    def __str__(self) -> str:
        """As in the note about the probe."""
        return f"{self.size}" + " with a finer stem" * (self.stem == "fine")


def probe(
    recipe: Recipe,
    pretrained: PretrainedSettings,
    splits: Splits,
    *,
    offline: bool = False,
    progress: Progress | None = None,
) -> tuple[PretrainedSettings, str]:
    """The settings with the cheapest input within one standard error of the best, and why.

    The one-standard-error rule pays for no gain that a few hundred images cannot show. Images are
    enlarged step by step up to the network's own input size, and also passed unchanged through a
    finer stem where the network has one; the probe stops when two costlier inputs gain too little.
    """
    # Images to be judged by must not be trained on, even where the final training includes them.
    own = np.flatnonzero(~np.isin(splits.train.ids, splits.validation.ids))
    every = np.arange(len(splits.validation))
    train, held = _some(splits.train, own, _TRAIN), _some(splits.validation, every, _VALIDATION)
    measured: dict[Look, float] = {}
    for look in _looks(pretrained, train, offline):
        given = _settings(pretrained, look)
        # Some networks take their own input size only, or none as small as this.
        with suppress(WrongInputSize):
            classifier = adapt(given, train, seed=recipe.train.seed, offline=offline).classifier
            measured[look] = _accuracy(classifier, recipe, (train, held), (progress, str(look)))
        if _has_levelled(measured):
            break
    chosen = _cheapest(measured, len(held))
    return _settings(pretrained, chosen), _sentence(chosen, measured, (len(train), len(held)))


def _looks(pretrained: PretrainedSettings, images: ImageSet, offline: bool) -> list[Look]:
    """Every input worth trying, cheapest first."""
    side, largest = images.height, own_size(pretrained)
    looks = {Look(n, "kept", n) for n in (side, *_SIZES, largest) if side <= n <= largest}
    whole = adapt(_settings(pretrained, Look(largest)), images, offline=offline).classifier.net
    stem = stem_of(whole.body if isinstance(whole, ResizedInput) else whole)
    if stem is not None and pretrained.stem is None:
        looks.add(Look(side, "fine", side * stem.factor))
    return sorted(looks, key=lambda look: (look.cost, look.stem))


def _settings(pretrained: PretrainedSettings, look: Look) -> PretrainedSettings:
    return pretrained.model_copy(update={"input_size": look.size, "stem": look.stem})


def _accuracy(
    classifier: Classifier,
    recipe: Recipe,
    parts: tuple[ImageSet, ImageSet],
    reporting: tuple[Progress | None, str],
) -> float:
    extractor = make_extractor(classifier, parts[0], recipe.train)
    train, held = (
        extract(extractor, part, progress=reporting[0], name=f"probe at {reporting[1]}, {name}")
        for part, name in zip(parts, ("train", "validation"), strict=True)
    )
    fits = fit_heads(train, held, HeadSettings(strengths=(0.001, 0.01, 0.1)))
    return best_head(fits).validation_accuracy


def _cheapest(measured: Mapping[Look, float], count: int) -> Look:
    best = max(measured.values())
    enough = best - math.sqrt(best * (1 - best) / count)
    good = [look for look, accuracy in measured.items() if accuracy >= enough]
    return min(good, key=lambda look: (look.cost, look.stem))


def _has_levelled(measured: Mapping[Look, float]) -> bool:
    """True when the last two inputs gained too little over the best before them."""
    found = list(measured.values())
    return len(found) > 3 and max(found[-2:]) < max(found[:-2]) + _WORTH


def _sentence(chosen: Look, measured: Mapping[Look, float], counts: tuple[int, int]) -> str:
    found = ", ".join(f"{look}: {percentage(accuracy, 1)}" for look, accuracy in measured.items())
    return (
        f"The input size {chosen} was chosen by a probe with {counts[0]} training and {counts[1]} "
        "validation images, as the cheapest within one standard error of the best (accuracy of a "
        f"logistic head on frozen features, by pixels per side: {found}); "
        "model.pretrained.input_size and model.pretrained.stem set it by hand."
    )


def _some(images: ImageSet, own: NDArray[np.int64], count: int) -> ImageSet:
    """At most ``count`` of the images at these positions."""
    if len(own) > count:
        own = own[np.sort(limit(images.ids[own], images.targets[own], count, seed=0))]
    return take(images, own)
