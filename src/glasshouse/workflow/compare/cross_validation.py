"""k-fold cross-validation on frozen features, for data sets too small for one held-out split."""

import time
from dataclasses import dataclass, replace

import numpy as np

from glasshouse.data.images import ImageSet
from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.evaluation.metrics import hits
from glasshouse.models.predict import Predictions
from glasshouse.progress import Progress
from glasshouse.settings import Recipe
from glasshouse.training.features import Features, extract, make_extractor
from glasshouse.training.folds import Positions, assign_folds, join, rows_of
from glasshouse.training.head_choice import choose_head
from glasshouse.training.heads import HeadSettings, fit_heads
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier
from glasshouse.workflow.train.feature_run import head_predictions, head_settings
from glasshouse.workflow.use.source_check import require_held_out, require_one_label

_INNER = 4


@dataclass(frozen=True)
class Folds:
    """Every image predicted by a head that has not seen it.

    predictions: for the training and validation images in order, and the test images on request.
    fold_of ``(n,)``: the fold in which each was held out. accuracies: one per fold; accuracy: over
    all images. image_sets: the images themselves, for galleries.
    """

    predictions: Predictions
    fold_of: Positions
    accuracy: Interval
    accuracies: tuple[float, ...]
    image_sets: tuple[ImageSet, ...]
    notes: tuple[str, ...]
    seconds: float


def cross_validate(
    request: TrainRequest,
    *,
    folds: int = 5,
    with_test: bool = False,
    progress: Progress | None = None,
) -> Folds:
    """Stratified k-fold cross-validation: each fold is predicted by heads fitted to the others.

    The head is chosen by an inner split, so that held-out images have no influence on it.
    with_test: include the test split, which is otherwise left alone. Raises UsageError for fewer
    than two folds, RecipeError for data.train_on_validation, which would count images twice, and
    DataError when a class has fewer images than folds.
    """
    started = time.perf_counter()
    require_held_out(request.recipe.data, "folds")
    require_one_label(request.source, "cross-validation")
    splits, classifier = first_classifier(request, progress)
    parts = {"train": splits.train, "validation": splits.validation}
    parts |= {"test": splits.test} if with_test else {}
    recipe = request.recipe
    labels, ids = (
        np.concatenate([getattr(part, name) for part in parts.values()])
        for name in ("labels", "ids")
    )
    # Before the features, which take long: this may refuse.
    fold_of = assign_folds(ids, labels, folds, seed=recipe.data.split_seed)
    extractor = make_extractor(classifier, splits.train, recipe.train)
    flips = recipe.transfer.flips
    whole = join([
        extract(extractor, part, flips=flips, progress=progress, name=f"{name} features")
        for name, part in parts.items()
    ])  # fmt: skip
    predictions = _held_out(whole, fold_of, recipe)
    right = hits(predictions)
    left_out = (f"{bad.path} was skipped: {bad.reason}" for bad in splits.bad_files)
    accuracies = tuple(float(right[fold_of == fold].mean()) for fold in range(folds))
    return Folds(
        predictions, fold_of, wilson_of(right), accuracies, tuple(parts.values()),
        (*splits.notes, extractor.describe(), *left_out), time.perf_counter() - started,
    )  # fmt: skip


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
    """The head with the best score on an inner split of the images that were not held out."""
    if len(settings.kinds) == 1 and (
        settings.kinds[0] != "logistic" or len(settings.strengths) == 1
    ):
        return settings
    fewest = int(np.bincount(seen.labels, minlength=len(seen.class_names)).min())
    if fewest < 2:
        middle = settings.strengths[len(settings.strengths) // 2]
        return replace(settings, kinds=settings.kinds[:1], strengths=(middle,))
    inner = assign_folds(seen.ids, seen.labels, min(_INNER, fewest), seed=settings.seed)
    some, others = rows_of(seen, np.flatnonzero(inner == 0)), rows_of(seen, np.flatnonzero(inner))
    best = choose_head(others, some, settings).best
    strengths = settings.strengths if best.strength is None else (best.strength,)
    return replace(settings, kinds=(best.kind,), strengths=strengths)
