"""Pretrained backbones compared on one source: features once, a head in seconds, paired tests."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from glasshouse.cluster.piecework import Piecework, one_after_another
from glasshouse.data.images import Splits
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.compare_labels import (
    Comparisons,
    compare_any,
    mean_precision,
)
from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.evaluation.metrics import hits
from glasshouse.models.predict import Predictions, load_predictions
from glasshouse.models.zoo import require_weights
from glasshouse.progress import Progress
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe
from glasshouse.training.features import make_extractor
from glasshouse.training.head_choice import choose_head
from glasshouse.wording import ACCURACY, PRECISION
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier
from glasshouse.workflow.train.feature_run import head_predictions, head_settings, split_features
from glasshouse.workflow.train.pretrained_setup import pretrained_of
from glasshouse.workflow.train.request import from_anywhere
from glasshouse.workflow.use.source_check import require_held_out


@dataclass(frozen=True)
class Backbone:
    """One backbone with a head on its features, evaluated on the test split.

    feature_seconds: to extract the features, or to read the cache. head_seconds: for all heads
    that were tried. score: by the metric of the table. input_size: in pixels per side.
    parameters: without the original head.
    """

    name: str
    score: Interval
    validation_score: float
    head: str
    input_size: int
    parameters: int
    feature_seconds: float
    head_seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredBackbone:
    """What one backbone has left: its row, and its predictions for the test images.

    loss: on held-out images, which ranks it. images: a digest of the ids and labels that it has
    seen.
    """

    row: Backbone
    predictions: Predictions
    loss: float
    images: str


@dataclass(frozen=True)
class BackboneTable:
    """Backbones ranked by their loss on held-out images, best first, and every pair compared.

    The loss is the one that heads are chosen by; the test split has no influence on the ranking.
    metric: what scores are: accuracy, or mean average precision where an image may have several
    labels. runs: scores of finished runs on the same test images, by name.
    """

    metric: str

    backbones: tuple[Backbone, ...]
    runs: Mapping[str, Interval]
    comparisons: Comparisons


def compare_backbones(
    request: TrainRequest,
    recipes: Mapping[str, Recipe],
    *,
    run_folders: Sequence[Path] = (),
    progress: Progress | None = None,
    piecework: Piecework | None = None,
) -> BackboneTable:
    """Evaluate each recipe's backbone by a head on its features, next to finished runs.

    request: source and access; its recipe is not used. Every backbone sees the same images in the
    same splits. progress: called with (what, done, total) where they are measured here. piecework:
    measures them elsewhere. Raises UsageError for fewer than two to compare, RecipeError for
    data.train_on_validation, and DataError when a run was evaluated on other images, or a machine
    has read others.
    """
    if len(recipes) + len(run_folders) < 2:
        raise UsageError("compare-backbones needs two networks or more, or one and --run RUN")
    for recipe in recipes.values():
        require_held_out(recipe.data, "compare-backbones")
    pieces = [
        (name, from_anywhere(replace(request, recipe=_with_whole_paths(recipe))))
        for name, recipe in recipes.items()
    ]
    if piecework is None:
        for recipe in recipes.values():  # all of them, before the first takes minutes
            require_weights(pretrained_of(recipe), offline=request.offline)
        results = one_after_another(partial(measure_backbone, progress=progress), pieces)
    else:
        results = piecework(measure_backbone, pieces)
    found = list(results)
    _require_same_images(found)
    ranked: list[MeasuredBackbone] = sorted(found, key=lambda each: each.loss)
    own: dict[str, Predictions] = {}
    for folder in run_folders:
        own[_free_name(folder, {*recipes, *own})] = _run_predictions(folder)
    everything = {each.row.name: each.predictions for each in ranked} | own
    are_several = any(predictions.is_multi_label for predictions in everything.values())
    return BackboneTable(
        PRECISION if are_several else ACCURACY,
        tuple(each.row for each in ranked),
        {name: _score(predictions) for name, predictions in own.items()},
        compare_any(everything),
    )


def _score(predictions: Predictions) -> Interval:
    if predictions.is_multi_label:
        return mean_precision(predictions)
    return wilson_of(hits(predictions))


def _with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe with weights that are found from any folder."""
    pretrained = recipe.model.pretrained
    if pretrained is None or pretrained.weights in ("usual", "none"):
        return recipe
    file = str(Path(pretrained.weights).resolve())
    changed = pretrained.model_copy(update={"weights": file})
    return recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"pretrained": changed})}
    )


def _require_same_images(found: Sequence[MeasuredBackbone]) -> None:
    """Raise DataError where a backbone has seen other images than the first."""
    for each in found:
        if each.images != found[0].images:
            raise DataError(
                f"{each.row.name} has seen other images than {found[0].row.name}: the machines of "
                "the cluster do not read the same source. Put it on a disk that all share, or name "
                "an address"
            )


def _images_of(splits: Splits) -> str:
    # Without the pixels, which depend on how the backbone wants them.
    digest = hashlib.sha256()
    for part in (splits.train, splits.validation, splits.test):
        digest.update(
            repr((part.ids.tolist(), part.targets.tolist(), part.class_names)).encode(
                "utf-8", "surrogateescape"
            )
        )
    return digest.hexdigest()


def measure_backbone(
    name: str, request: TrainRequest, progress: Progress | None = None
) -> MeasuredBackbone:
    """Extract the features of the recipe's backbone, and fit and measure heads on them."""
    splits, classifier = first_classifier(request, progress)
    recipe = request.recipe
    extractor = make_extractor(classifier, splits.train, recipe.train)
    features = split_features(extractor, splits, flips=recipe.transfer.flips, progress=progress)
    started = time.perf_counter()
    choice = choose_head(features.train, features.validation, head_settings(recipe))
    best = choice.best
    seconds = time.perf_counter() - started
    predictions = head_predictions(best, features.test)
    row = Backbone(
        name=name,
        score=_score(predictions),
        validation_score=_score(head_predictions(best, features.validation)).value,
        head=best.title(),
        input_size=int((classifier.architecture or {}).get("input_size", splits.train.height)),
        parameters=sum(p.numel() for p in classifier.net.parameters()),
        feature_seconds=features.seconds,
        head_seconds=seconds,
        notes=splits.notes,
    )
    loss = min(choice.fold_losses, default=best.validation_loss)
    return MeasuredBackbone(row, predictions, loss, _images_of(splits))


def _free_name(folder: Path, taken: set[str]) -> str:
    return str(folder) if folder.name in taken else folder.name


def _run_predictions(folder: Path) -> Predictions:
    run = runs.read_run(folder)
    if not run.is_finished:
        raise UsageError(f"{folder} has not finished training, so there is nothing to compare")
    return load_predictions(folder / runs.PREDICTIONS)
