"""Small sets: k-fold evaluation on frozen features, where one held-out part would say little."""

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.download import Progress
from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.evaluation.metrics import hits
from glasshouse.models.predict import Predictions
from glasshouse.rng import keys_of, permutation
from glasshouse.settings import Recipe
from glasshouse.training.features import Features, extract, make_extractor
from glasshouse.training.heads import HeadSettings, best_head, fit_heads
from glasshouse.workflow.experiment import Request, first_classifier
from glasshouse.workflow.transfer import head_predictions, head_settings

Positions = NDArray[np.int64]

_INNER = 4


@dataclass(frozen=True)
class Folds:
    """Every picture predicted by a head that has not seen it.

    predictions: of the training and validation pictures in order; test is not touched. fold_of
    ``(n,)``: the fold in which each was held out. accuracies: one for each fold, accuracy over
    all pictures. image_sets: where the pictures lie, for galleries.
    """

    predictions: Predictions
    fold_of: Positions
    accuracy: Interval
    accuracies: tuple[float, ...]
    image_sets: tuple[ImageSet, ...]
    notes: tuple[str, ...]
    seconds: float


def cross_validate(request: Request, *, folds: int = 5, progress: Progress | None = None) -> Folds:
    """Hold out each k-th of the pictures in turn, class by class, and predict it from the rest.

    The strength of the head is chosen inside the rest, on a part of it, so that the held-out
    pictures have no say. Raises UsageError for fewer than two folds, and DataError when a class
    has fewer pictures than folds.
    """
    started = time.perf_counter()
    splits, classifier = first_classifier(request, progress)
    sets = (splits.train, splits.validation)
    recipe = request.recipe
    extractor = make_extractor(classifier, splits.train, recipe.train)
    parts = [
        extract(extractor, each, flips=recipe.transfer.flips, progress=progress, name=name)
        for name, each in zip(("train features", "validation features"), sets, strict=True)
    ]
    whole = join(parts)
    fold_of = assign_folds(whole.ids, whole.labels, folds, seed=recipe.data.split_seed)
    predictions = _held_out(whole, fold_of, recipe)
    right = hits(predictions)
    accuracies = tuple(float(right[fold_of == fold].mean()) for fold in range(folds))
    return Folds(
        predictions, fold_of, wilson_of(right), accuracies, sets,
        (*splits.notes, extractor.describe()), time.perf_counter() - started,
    )  # fmt: skip


def assign_folds(ids: NDArray[np.str_], labels: Positions, folds: int, *, seed: int) -> Positions:
    """A fold ``(n,)`` for each picture, by a hash of its id and evenly within each class."""
    if folds < 2:
        raise UsageError(f"--folds: expected two or more, received {folds}")
    counts = np.bincount(labels)
    if counts[counts > 0].min() < folds:
        raise DataError(
            f"a class has {counts[counts > 0].min()} pictures, which is less than {folds} folds: "
            "each fold needs a picture of every class. Use fewer folds, or add pictures."
        )
    fold_of = np.empty(len(ids), dtype=np.int64)
    order = permutation(seed, "folds", 0, keys_of(ids))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        # Classes begin at different folds, so that small ones do not all fill the first.
        fold_of[own] = (np.arange(len(own)) + label) % folds
    return fold_of


def join(parts: list[Features]) -> Features:
    """Features of several sets, one below the other, in memory."""
    mirrored = [part.mirrored for part in parts if part.mirrored is not None]
    return Features(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ids for part in parts]),
        parts[0].class_names,
        np.concatenate(mirrored) if len(mirrored) == len(parts) else None,
    )


def rows_of(features: Features, positions: Positions) -> Features:
    """The features of some pictures."""
    mirrored = None if features.mirrored is None else features.mirrored[positions]
    return replace(
        features,
        values=features.values[positions],
        labels=features.labels[positions],
        ids=features.ids[positions],
        mirrored=mirrored,
    )


def _held_out(whole: Features, fold_of: Positions, recipe: Recipe) -> Predictions:
    logits = np.empty((len(whole), len(whole.class_names)), dtype=np.float32)
    settings = head_settings(recipe)
    for fold in range(int(fold_of.max()) + 1):
        held, rest = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        seen, unseen = rows_of(whole, rest), rows_of(whole, held)
        fits = fit_heads(seen, unseen, _chosen(seen, settings))
        logits[held] = head_predictions(fits[0], unseen).logits
    return Predictions(logits, whole.labels, whole.ids, whole.class_names)


def _chosen(seen: Features, settings: HeadSettings) -> HeadSettings:
    """The one head that does best on a part of the seen pictures when fitted to the others."""
    if len(settings.kinds) == 1 and (
        settings.kinds[0] != "logistic" or len(settings.strengths) == 1
    ):
        return settings
    fewest = int(np.bincount(seen.labels, minlength=len(seen.class_names)).min())
    if fewest < 2:
        middle = settings.strengths[len(settings.strengths) // 2]
        return replace(settings, kinds=settings.kinds[:1], strengths=(middle,))
    inner = assign_folds(seen.ids, seen.labels, min(_INNER, fewest), seed=settings.seed)
    chosen, others = np.flatnonzero(inner == 0), np.flatnonzero(inner != 0)
    best = best_head(fit_heads(rows_of(seen, others), rows_of(seen, chosen), settings))
    strengths = settings.strengths if best.strength is None else (best.strength,)
    return replace(settings, kinds=(best.kind,), strengths=strengths)
