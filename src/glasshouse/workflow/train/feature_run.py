"""Feature extraction: a frozen backbone run once, heads fitted to its features, a run folder."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from glasshouse.cluster.piecework import Piecework
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, predict
from glasshouse.progress import Progress
from glasshouse.runs import folder as runs, holding
from glasshouse.settings import Recipe, TrainSettings
from glasshouse.storage import write_json
from glasshouse.training.adapting import with_head
from glasshouse.training.features import Extractor, Features, extract, make_extractor
from glasshouse.training.fit import require_balance_fits
from glasshouse.training.head_choice import FEW, HeadChoice, choose_head, head_answers
from glasshouse.training.heads import (
    DEFAULT_HIDDEN,
    Balance,
    HeadFit,
    HeadSettings,
    head_logits,
)
from glasshouse.training.operations import features_flop
from glasshouse.training.thread_choice import ThreadChoice
from glasshouse.workflow.train.conclusion import Result, conclude
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    claim_run,
    first_classifier,
    write_start,
)
from glasshouse.workflow.train.pretrained_setup import pretrained_of
from glasshouse.workflow.train.reporting import write_cost
from glasshouse.workflow.train.request import as_started
from glasshouse.workflow.use.source_check import require_no_errors

_CHECKED = 64


@dataclass(frozen=True)
class SplitFeatures:
    """The features of the three splits, and the seconds that they took."""

    train: Features
    validation: Features
    test: Features
    seconds: float


@dataclass(frozen=True)
class FeatureRun:
    """What a feature-extraction run leaves in memory: its result, and every head that was tried."""

    result: Result
    choice: HeadChoice
    splits: Splits
    feature_seconds: float


def run_features(
    request: TrainRequest,
    progress: Progress | None = None,
    *,
    piecework: Piecework | None = None,
) -> FeatureRun:
    """Extract features, fit the heads of the recipe, keep the best, evaluate it and report.

    Cached features are reused, and an interrupted extraction resumes. progress: called with (what,
    done, total). piecework: computes blocks of features elsewhere; the heads are fitted here.
    Raises UsageError and DataError as ``open_experiment`` does.
    """
    try:
        return _fitted_heads(request, progress, piecework)
    except BaseException as error:
        # A refused request says nothing about the run that is in the folder.
        holding.release(request.out, None if isinstance(error, UsageError) else error)
        raise


def _fitted_heads(
    request: TrainRequest, progress: Progress | None, piecework: Piecework | None
) -> FeatureRun:
    before = claim_run(request)
    request = as_started(request, before)
    splits, classifier = first_classifier(request, progress)
    require_no_errors(splits, request.recipe.data)
    require_balance_fits(request.recipe.train, splits.train)
    write_start(request, splits, before, ThreadChoice(torch.get_num_threads()))
    recipe = request.recipe
    extractor = make_extractor(classifier, splits.train, recipe.train)
    features = split_features(
        extractor, splits, flips=recipe.transfer.flips, progress=progress, piecework=piecework
    )
    started = time.perf_counter()
    choice = choose_head(features.train, features.validation, head_settings(recipe))
    cost = {
        "feature_seconds": round(features.seconds, 3),
        "head_seconds": round(time.perf_counter() - started, 3),
        "precision": str(extractor.body.precision).removeprefix("torch."),
    }
    best = choice.best
    trained = with_head(classifier, best)
    trained.net.to(extractor.device)
    measured = (
        head_predictions(best, features.validation),
        head_predictions(best, features.test),
    )
    notes = (
        extractor.describe(),
        f"Only a new head was fitted, to frozen features. {choice.describe()}",
        _agreement(trained, splits.test, measured[1]),
    )
    splits = replace(splits, notes=(*splits.notes, *notes))
    write_json(request.out / runs.HEADS, {**cost, "heads": _heads(choice)})
    views = 2 if recipe.transfer.flips else 1
    write_cost(request.out, features_flop(trained.net, splits.train, views))
    result = conclude(request.out, splits, trained, measured, calibrate_on=choice.held_out)
    return FeatureRun(result, choice, splits, features.seconds)


def split_features(
    extractor: Extractor,
    splits: Splits,
    *,
    flips: bool,
    progress: Progress | None = None,
    piecework: Piecework | None = None,
) -> SplitFeatures:
    """Features of all three splits.

    flips: of mirrored training images as well, and of mirrored validation images where the split
    is so small that it takes part in choosing heads. piecework: computes blocks of them elsewhere.
    """
    started = time.perf_counter()
    is_few = len(splits.validation) < FEW
    train, validation, test = (
        extract(
            extractor, part, flips=flipped, progress=progress, name=f"{name} features",
            piecework=piecework,
        )
        for name, part, flipped in (
            ("train", splits.train, flips),
            ("validation", splits.validation, flips and is_few),
            ("test", splits.test, False),
        )
    )  # fmt: skip
    return SplitFeatures(train, validation, test, time.perf_counter() - started)


def head_settings(recipe: Recipe) -> HeadSettings:
    """The heads that a recipe asks for."""
    pretrained, transfer = pretrained_of(recipe), recipe.transfer
    return HeadSettings(
        kinds=transfer.heads,
        strengths=transfer.strengths,
        hidden=pretrained.hidden or DEFAULT_HIDDEN,
        dropout=pretrained.dropout,
        balance=_balance(recipe.train),
        seed=recipe.train.seed,
    )


def _balance(settings: TrainSettings) -> Balance:
    if settings.sampling == "balanced":
        return "sampling"
    return "class_weights" if settings.class_weights == "balanced" else "none"


def head_predictions(fit: HeadFit, features: Features) -> Predictions:
    """The predictions of a head for the images of these features."""
    logits = head_logits(fit.layers, features.values)
    return head_answers(logits, features)


def _agreement(trained: Classifier, images: ImageSet, measured: Predictions) -> str:
    """How the saved classifier agrees with the cached features that the metrics come from."""
    some = take(images, np.arange(min(_CHECKED, len(images))))
    own = predict(trained, some, batch_size=32).logits
    theirs = measured.logits[: len(some)]
    answered = replace(measured, logits=theirs), replace(measured, logits=own)
    first, second = (each.predicted_matrix for each in answered)
    same = int((first == second).all(axis=1).sum())
    return (
        f"The metrics come from cached features; run end to end, the classifier gives the same "
        f"prediction for {same} of the first {len(some)} test images."
    )


def _heads(choice: HeadChoice) -> list[dict[str, object]]:
    """The heads as written to heads.json."""
    folds = choice.fold_losses or (None,) * len(choice.fits)
    return [
        {
            "kind": fit.kind,
            "C": fit.strength,
            "validation_accuracy": fit.validation_accuracy,
            "validation_loss": fit.validation_loss,
            "fold_loss": loss,
            "seconds": round(fit.seconds, 3),
            "kept": fit is choice.best,
        }
        for fit, loss in zip(choice.fits, folds, strict=True)
    ]
