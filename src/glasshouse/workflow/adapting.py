"""From a recipe with a pretrained net to a classifier of the right size, with sentences on why."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from glasshouse.data.download import Progress
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.sources import has_own_size
from glasshouse.data.splits import limit
from glasshouse.settings import DataSettings, PretrainedSettings, Recipe, TrainSettings
from glasshouse.training.adapting import Adapted, adapt, own_size
from glasshouse.training.features import extract, make_extractor
from glasshouse.training.heads import HeadSettings, best_head, class_weights, fit_heads
from glasshouse.training.transfer import describe_stages

# Of the probe that chooses a size for small pictures: how many pictures it looks at, the sizes, and
# the gain in accuracy below which a larger size is not worth its time.
_PROBE_TRAIN, _PROBE_VALIDATION = 600, 400
_PROBE_SIZES = (32, 64, 96, 128, 160, 192, 224)
_WORTH = 0.01


def pretrained_of(recipe: Recipe) -> PretrainedSettings:
    """The settings of a recipe's pretrained net, which must be there."""
    assert recipe.model.pretrained is not None
    return recipe.model.pretrained


def data_settings(source: str | Path, recipe: Recipe) -> DataSettings:
    """How a source is read for the net: files at the size that it sees, small pictures as is."""
    if recipe.data.image_size is not None or has_own_size(source):
        return recipe.data
    settings = pretrained_of(recipe)
    size = settings.input_size or own_size(settings)
    return recipe.data.model_copy(update={"image_size": size})


def adapted_classifier(
    recipe: Recipe, splits: Splits, *, offline: bool = False, progress: Progress | None = None
) -> Adapted:
    """The pretrained net for these pictures; its notes also say what is trainable.

    Where the pictures are smaller than the net's own size and no size is given, a quick probe on
    training and validation pictures chooses one.
    """
    settings, seed, resize = pretrained_of(recipe), recipe.train.seed, recipe.data.resize
    probed: tuple[str, ...] = ()
    if settings.input_size is None and splits.train.height < own_size(settings):
        size, probed = probe_size(recipe, splits, offline=offline, progress=progress)
        settings = settings.model_copy(update={"input_size": size})
    adapted = adapt(settings, splits.train, resize=resize, seed=seed, offline=offline)
    stages: tuple[str, ...] = ()
    if recipe.transfer.way != "features":
        found = describe_stages(adapted.classifier.net, recipe.transfer, recipe.train.epochs)
        stages = tuple(f"{line[0].upper()}{line[1:]}." for line in found)
    return replace(adapted, notes=(*adapted.notes, *probed, *stages))


def probe_size(
    recipe: Recipe, splits: Splits, *, offline: bool = False, progress: Progress | None = None
) -> tuple[int, tuple[str, ...]]:
    """The smallest input size beyond which some hundred pictures gain less than a point.

    Returns it with a sentence on what was measured. Sizes rise from that of the pictures to the
    net's own, and the probe stops at the first that gains too little.
    """
    settings = pretrained_of(recipe)
    side, largest = splits.train.height, own_size(settings)
    train = _some(splits.train, _PROBE_TRAIN)
    validation = _some(splits.validation, _PROBE_VALIDATION)
    measured: dict[int, float] = {}
    sizes = sorted({side, largest, *(s for s in _PROBE_SIZES if side < s < largest)})
    for size in sizes:
        given = settings.model_copy(update={"input_size": size})
        classifier = adapt(given, train, seed=recipe.train.seed, offline=offline).classifier
        extractor = make_extractor(classifier, train, recipe.train)
        name = f"probe at {size}x{size}"
        fits = fit_heads(
            extract(extractor, train, progress=progress, name=name),
            extract(extractor, validation, progress=progress, name=name),
            HeadSettings(strengths=(0.001, 0.01, 0.1)),
        )
        measured[size] = best_head(fits).validation_accuracy
        if _has_levelled(measured):
            break
    enough = max(measured.values()) - _WORTH
    chosen = min(size for size, accuracy in measured.items() if accuracy >= enough)
    found = ", ".join(f"{size}: {accuracy:.1%}" for size, accuracy in measured.items())
    return chosen, (
        f"The input size {chosen} was chosen by a probe with {len(train)} training and "
        f"{len(validation)} validation pictures (a logistic head on frozen features, by pixels a "
        f"side: {found}); model.pretrained.input_size sets it by hand.",
    )


def class_weights_of(settings: TrainSettings, splits: Splits) -> tuple[float, ...] | None:
    """What each class counts in the loss, where the settings ask for balance."""
    if settings.class_weights == "none":
        return None
    weights = class_weights(splits.train.labels, len(splits.class_names))
    return tuple(float(weight) for weight in weights)


def _has_levelled(measured: dict[int, float]) -> bool:
    """True when the last two sizes gained less than is worth it over the best before them."""
    found = list(measured.values())
    return len(found) > 3 and max(found[-2:]) < max(found[:-2]) + _WORTH


def _some(images: ImageSet, count: int) -> ImageSet:
    if len(images) <= count:
        return images
    return take(images, np.sort(limit(images.ids, images.labels, count, seed=0)))
