"""How a net should look at images smaller than it was trained on: measured, on a few of them."""

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

# How many images the probe looks at, the sizes, and the gain in accuracy below which it stops.
_TRAIN, _VALIDATION = 600, 400
_SIZES = (64, 96, 128, 160, 192, 224)
_WORTH = 0.01


@dataclass(frozen=True)
class Look:
    """Pixels a side that the net is given, and its stem; cost: the size of equal work, a side."""

    size: int
    stem: Literal["kept", "fine"] = "kept"
    cost: int = 0

    def __str__(self) -> str:
        """As it stands in the note on the probe."""
        return f"{self.size}" + " with a finer stem" * (self.stem == "fine")


def probe(
    recipe: Recipe,
    pretrained: PretrainedSettings,
    splits: Splits,
    *,
    offline: bool = False,
    progress: Progress | None = None,
) -> tuple[PretrainedSettings, str]:
    """The settings with the cheapest look within one standard error of the best.

    That rule takes no costlier look for a gain that some hundred images cannot show. Returns a
    sentence on what was measured as well. The images are enlarged ever more, up to the
    net's own size, and in between seen as they are through a finer stem, where the net has one;
    the probe stops where two costlier looks gained too little.
    """
    # What is judged by must not be learnt from, though the training may have it in the end.
    own = np.flatnonzero(~np.isin(splits.train.ids, splits.validation.ids))
    every = np.arange(len(splits.validation))
    train, held = _some(splits.train, own, _TRAIN), _some(splits.validation, every, _VALIDATION)
    measured: dict[Look, float] = {}
    for look in _looks(pretrained, train, offline):
        given = _settings(pretrained, look)
        # A net may take its own size only, or none as small as this.
        with suppress(WrongInputSize):
            classifier = adapt(given, train, seed=recipe.train.seed, offline=offline).classifier
            measured[look] = _accuracy(classifier, recipe, (train, held), (progress, str(look)))
        if _has_levelled(measured):
            break
    chosen = _cheapest(measured, len(held))
    return _settings(pretrained, chosen), _sentence(chosen, measured, (len(train), len(held)))


def _looks(pretrained: PretrainedSettings, images: ImageSet, offline: bool) -> list[Look]:
    """Every look that may suit, the cheapest first."""
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
    telling: tuple[Progress | None, str],
) -> float:
    extractor = make_extractor(classifier, parts[0], recipe.train)
    train, held = (
        extract(extractor, part, progress=telling[0], name=f"probe at {telling[1]}, {name}")
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
    """True when the last two looks gained less than is worth it over the best before them."""
    found = list(measured.values())
    return len(found) > 3 and max(found[-2:]) < max(found[:-2]) + _WORTH


def _sentence(chosen: Look, measured: Mapping[Look, float], counts: tuple[int, int]) -> str:
    found = ", ".join(f"{look}: {accuracy:.1%}" for look, accuracy in measured.items())
    return (
        f"The input size {chosen} was chosen by a probe with {counts[0]} training and {counts[1]} "
        "validation images, as the cheapest within a standard error of the best (a logistic head "
        f"on frozen features, by pixels a side: {found}); model.pretrained.input_size and "
        "model.pretrained.stem set it by hand."
    )


def _some(images: ImageSet, own: NDArray[np.int64], count: int) -> ImageSet:
    """So many of the images at these positions."""
    if len(own) > count:
        own = own[np.sort(limit(images.ids[own], images.labels[own], count, seed=0))]
    return take(images, own)
