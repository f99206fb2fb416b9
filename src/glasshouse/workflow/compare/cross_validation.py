"""k-fold cross-validation on frozen features, for data sets too small for one held-out split."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.cluster.piecework import Piecework, one_after_another
from glasshouse.data.images import ImageSet
from glasshouse.data.targets import class_counts
from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.evaluation.metrics import hits
from glasshouse.evaluation.multi_label import evaluate_labels, mean_average_precision
from glasshouse.models.predict import Predictions
from glasshouse.progress import Progress
from glasshouse.settings import Recipe
from glasshouse.training.features import Features, extract, make_extractor
from glasshouse.training.folds import Positions, assign_folds, join, rows_of
from glasshouse.training.head_choice import choose_head, head_answers
from glasshouse.training.heads import HeadSettings, fit_heads
from glasshouse.wording import ACCURACY, PRECISION
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier
from glasshouse.workflow.train.feature_run import head_predictions, head_settings
from glasshouse.workflow.use.source_check import require_held_out

_INNER = 4


@dataclass(frozen=True)
class Folds:
    """Every image predicted by a head that has not seen it.

    predictions: for the training and validation images in order, and the test images on request.
    fold_of ``(n,)``: the fold in which each was held out. metric: what the scores are, accuracy, or
    mean average precision where an image may have several labels; scores: one per fold; score: over
    all images. image_sets: the images themselves, for galleries. features ``(n, width)``: those of
    the frozen backbone.
    """

    predictions: Predictions
    fold_of: Positions
    metric: str
    score: Interval
    scores: tuple[float, ...]
    image_sets: tuple[ImageSet, ...]
    notes: tuple[str, ...]
    seconds: float
    features: NDArray[np.floating[Any]]


def cross_validate(
    request: TrainRequest,
    *,
    folds: int = 5,
    with_test: bool = False,
    progress: Progress | None = None,
    piecework: Piecework | None = None,
) -> Folds:
    """Stratified k-fold cross-validation: each fold is predicted by heads fitted to the others.

    The head is chosen by an inner split, so that held-out images have no influence on it.
    with_test: include the test split, which is otherwise left alone. piecework: computes blocks of
    features, and the folds. Raises UsageError for fewer than two folds, RecipeError for
    data.train_on_validation, which would count images twice, and DataError when a class has fewer
    images than folds.
    """
    started = time.perf_counter()
    require_held_out(request.recipe.data, "folds")
    splits, classifier = first_classifier(request, progress)
    parts = {"train": splits.train, "validation": splits.validation}
    parts |= {"test": splits.test} if with_test else {}
    recipe = request.recipe
    targets, ids = (
        np.concatenate([getattr(part, name) for part in parts.values()])
        for name in ("targets", "ids")
    )
    # Before the features, which take long: this may refuse.
    fold_of = assign_folds(ids, targets, folds, seed=recipe.data.split_seed)
    extractor = make_extractor(classifier, splits.train, recipe.train)
    flips = recipe.transfer.flips
    whole = join([
        extract(
            extractor, part, flips=flips, progress=progress, name=f"{name} features",
            piecework=piecework,
        )
        for name, part in parts.items()
    ])  # fmt: skip
    predictions = _held_out(whole, fold_of, recipe, piecework or one_after_another)
    metric, score, scores = _scores(predictions, fold_of)
    left_out = (f"{bad.path} was skipped: {bad.reason}" for bad in splits.bad_files)
    return Folds(
        predictions, fold_of, metric, score, scores, tuple(parts.values()),
        (*splits.notes, extractor.describe(), *left_out), time.perf_counter() - started,
        whole.values,
    )  # fmt: skip


def _scores(
    predictions: Predictions, fold_of: Positions
) -> tuple[str, Interval, tuple[float, ...]]:
    """The name of the metric, its value over all images, and its value in each fold."""
    parts = [fold_of == fold for fold in range(int(fold_of.max()) + 1)]
    if not predictions.is_multi_label:
        right = hits(predictions)
        return ACCURACY, wilson_of(right), tuple(float(right[own].mean()) for own in parts)
    truth, shares = predictions.label_matrix, predictions.probabilities
    scores = tuple(mean_average_precision(truth[own], shares[own]) for own in parts)
    return PRECISION, evaluate_labels(predictions).mean_average_precision, scores


def _held_out(
    whole: Features, fold_of: Positions, recipe: Recipe, piecework: Piecework
) -> Predictions:
    logits = np.empty((len(whole), len(whole.class_names)), dtype=np.float32)
    settings, folds = head_settings(recipe), range(int(fold_of.max()) + 1)
    parts = [np.flatnonzero(fold_of == fold) for fold in folds]
    found = piecework(fold_logits, [(whole, settings, held) for held in parts])
    for held, own in zip(parts, found, strict=True):
        logits[held] = own
    return head_answers(logits, whole)


def fold_logits(whole: Features, settings: HeadSettings, held: Positions) -> NDArray[np.float32]:
    """The logits ``(m, k)`` of the rows held out, by a head that is fitted to all others."""
    rest = np.setdiff1d(np.arange(len(whole)), held)
    seen, unseen = rows_of(whole, rest), rows_of(whole, held)
    fits = fit_heads(seen, unseen, _chosen(seen, settings))
    return head_predictions(fits[0], unseen).logits


def _chosen(seen: Features, settings: HeadSettings) -> HeadSettings:
    """The head with the best score on an inner split of the images that were not held out."""
    if len(settings.kinds) == 1 and (
        settings.kinds[0] != "logistic" or len(settings.strengths) == 1
    ):
        return settings
    fewest = int(class_counts(seen.targets, len(seen.class_names)).min())
    if fewest < 2:
        middle = settings.strengths[len(settings.strengths) // 2]
        return replace(settings, kinds=settings.kinds[:1], strengths=(middle,))
    inner = assign_folds(seen.ids, seen.targets, min(_INNER, fewest), seed=settings.seed)
    some, others = rows_of(seen, np.flatnonzero(inner == 0)), rows_of(seen, np.flatnonzero(inner))
    best = choose_head(others, some, settings).best
    strengths = settings.strengths if best.strength is None else (best.strength,)
    return replace(settings, kinds=(best.kind,), strengths=strengths)
