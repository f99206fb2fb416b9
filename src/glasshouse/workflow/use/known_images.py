"""What a run's network makes of the images that it knows: the measure for others."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.made_outliers import made_outliers
from glasshouse.errors import GlasshouseError, ModelError, StorageError
from glasshouse.models.appearance import appearance_of
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing
from glasshouse.models.forward import predict_logits, require_finite
from glasshouse.models.neighbours import squared_lengths, unit_rows
from glasshouse.models.predict import logits_of
from glasshouse.models.unusual_scores import (
    UNUSUAL_SCORES,
    ClassGaussians,
    Unit,
    UnknownMeasure,
    UnusualScore,
    fit_gaussians,
    fit_looks,
    look_scores,
    scored_together,
    unusual_scores,
)
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json, read_tensor_metadata, read_tensors, write_tensors
from glasshouse.workflow.use.run_splits import require_images_of_run, splits_of_run

_APPEARANCE = "appearance"
# Validation images from which outliers are made, and that are compared with them.
_COMPARED = 500


@dataclass(frozen=True)
class KnownImages:
    """The features of a run's training images, and how unusual its validation images are.

    features ``(m, d)``: of unit length, in half precision. labels, ids ``(m,)``. looks: of their
    appearance. units: of each score, and of appearance. usual: each score of the validation images,
    joined with their appearance, sorted. auroc: for each kind of outliers made from validation
    images, how well each score, so joined, tells them from those images: the area under its ROC
    curve.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]
    gaussians: ClassGaussians
    looks: ClassGaussians
    units: Mapping[str, Unit]
    usual: Mapping[UnusualScore, NDArray[np.float32]]
    auroc: Mapping[str, Mapping[UnusualScore, float]]

    @cached_property
    def squares(self) -> NDArray[np.float32]:
        """The squared lengths of the features ``(m,)``: one but for rounding, or zero."""
        return squared_lengths(self.features)

    @property
    def best_score(self) -> UnusualScore:
        """The score that tells made outliers best from validation images, on average."""
        kinds = self.auroc.values()
        return max(UNUSUAL_SCORES, key=lambda name: sum(kind[name] for kind in kinds))

    @property
    def measure(self) -> UnknownMeasure:
        """What tells whether a photo is unlike the training images."""
        best = self.best_score
        units = (self.units[best], self.units[_APPEARANCE])
        return UnknownMeasure(
            best, self.features, self.gaussians, self.looks, units, self.usual[best]
        )

    def unusual(
        self,
        pixels: NDArray[np.uint8],
        features: NDArray[np.float32],
        logits: NDArray[np.floating[Any]],
        *,
        several: bool,
    ) -> NDArray[np.float32]:
        """How unusual each image is ``(n,)``, by the best score joined with appearance.

        pixels ``(n, 3, h, w)``, features ``(n, d)``, logits ``(n, k)``. several: as unusual_scores.
        """
        best = self.best_score
        scores = unusual_scores(
            self.features, self.gaussians, features, logits,
            several=several, names=[best], squares=self.squares,
        )  # fmt: skip
        looks = look_scores(self.looks, appearance_of(pixels))
        return scored_together(scores[best], looks, self.measure.units)

    def as_unusual(self, score: UnusualScore, value: float) -> int:
        """How many validation images are at least as unusual as a score."""
        usual = self.usual[score]
        return len(usual) - int(np.searchsorted(usual, np.float32(value), side="left"))


def features_of(
    body: nn.Module, preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Features ``(n, d)`` of unit length, for a network without its head.

    Raises ModelError for a network that fails once the layer taken to be its head is gone.
    """
    try:
        found = predict_logits(body, preprocessing, pixels).flatten(1)
    except GlasshouseError:
        raise
    # Code of a user's own may raise anything.
    except Exception as error:
        raise ModelError(
            "what the network sees just before its last layer is not found, as that layer is not "
            f"found: {error}. In code of your own, let a Linear layer return the logits"
        ) from error
    require_finite(found)
    return unit_rows(found.numpy())


def are_known(run: Path) -> bool:
    """Whether the features of a trained run are kept, for the weights that it has now."""
    path = run / runs.TRAINING_FEATURES
    if not path.is_file():
        return False
    return _is_current(read_tensor_metadata(path), _weights_of(run))


def known_images(
    run: Path,
    classifier: Classifier,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    splits: Splits | None = None,
) -> KnownImages:
    """Those of a run; computed when they are first asked for, and kept in the run folder.

    splits: the run's images, where they are loaded already. Raises DataError where its images have
    changed, ModelError for a network with several heads, and what `load_splits` raises.
    """
    runs.require_trained(run)
    weights = _weights_of(run)
    path = run / runs.TRAINING_FEATURES
    if path.is_file():
        found = _read(path, weights)
        if found is not None:
            return found
    facts = runs.read_run(run)
    splits = splits or splits_of_run(facts, data_dir=data_dir, offline=offline)
    known = _computed(facts, classifier, splits)
    tensors: dict[str, NDArray[Any]] = {
        "features": known.features,
        "means": known.gaussians.means,
        "precision": known.gaussians.precision,
        "looks_means": known.looks.means,
        "looks_precision": known.looks.precision,
        **{str(name): values for name, values in known.usual.items()},
    }
    about = {
        "weights": weights,
        "ids": known.ids.tolist(),
        "labels": known.labels.tolist(),
        "units": {name: [unit.mean, unit.deviation] for name, unit in known.units.items()},
        "auroc": known.auroc,
    }
    write_tensors(path, {name: torch.from_numpy(each) for name, each in tensors.items()}, about)
    return known


def compared_images(
    classifier: Classifier, train: ImageSet, held_out: NDArray[np.uint8]
) -> KnownImages:
    """What a classifier makes of the images that it was trained on, and of others like them.

    held_out: uint8 images ``(n, 3, h, w)``; none where all were trained on, as these say nothing
    about others.
    """
    measure = _Measure.of(classifier, train)
    found = measure.scores(held_out)
    units = {name: Unit.of(values) for name, values in found.items()}
    scores = _joined(found, units)
    compared = {name: values[:_COMPARED] for name, values in scores.items()}
    outliers = made_outliers(held_out[:_COMPARED]) if len(held_out) else {}
    auroc = {
        kind: _auroc(compared, _joined(measure.scores(made), units))
        for kind, made in outliers.items()
    }
    usual = {name: np.sort(values) for name, values in scores.items()}
    return KnownImages(
        measure.known, _labels(train), train.ids, measure.gaussians, measure.looks, units, usual,
        auroc,
    )  # fmt: skip


def _joined(
    found: Mapping[str, NDArray[np.float32]], units: Mapping[str, Unit]
) -> dict[UnusualScore, NDArray[np.float32]]:
    """Each score of the network with that of appearance."""
    return {
        name: scored_together(found[name], found[_APPEARANCE], (units[name], units[_APPEARANCE]))
        for name in UNUSUAL_SCORES
    }


def _is_current(facts: Mapping[str, Any], weights: str) -> bool:
    # Older files know nothing of appearance.
    return facts.get("weights") == weights and "units" in facts


def _weights_of(run: Path) -> str:
    return str(read_json(run / MODEL_FILE)["weights"]["sha256"])


def _computed(facts: runs.Run, classifier: Classifier, splits: Splits) -> KnownImages:
    require_images_of_run(splits, facts)
    held_out = splits.validation.pixels
    seen = facts.recipe.data.train_on_validation
    return compared_images(classifier, splits.train, held_out[:0] if seen else held_out)


@dataclass(frozen=True)
class _Measure:
    """Scores of any images, by the features and the appearance of the training images."""

    classifier: Classifier
    body: nn.Module
    known: NDArray[np.float16]
    gaussians: ClassGaussians
    looks: ClassGaussians

    @classmethod
    def of(cls, classifier: Classifier, train: ImageSet) -> "_Measure":
        body = backbone_of(classifier.net)
        known = features_of(body, classifier.preprocessing, train.pixels).astype(np.float16)
        # Images of several labels are in several classes: one Gaussian then holds for all.
        groups = np.zeros(len(train), np.int64) if train.is_multi_label else train.labels
        looks = fit_looks(appearance_of(train.pixels))
        return cls(classifier, body, known, fit_gaussians(known, groups), looks)

    def scores(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if not len(pixels):
            return {name: np.empty(0, np.float32) for name in (*UNUSUAL_SCORES, _APPEARANCE)}
        features = features_of(self.body, self.classifier.preprocessing, pixels)
        logits = logits_of(self.classifier, pixels)
        several = self.classifier.is_multi_label
        found = unusual_scores(self.known, self.gaussians, features, logits, several=several)
        looks = look_scores(self.looks, appearance_of(pixels))
        return {_APPEARANCE: looks, **{str(name): values for name, values in found.items()}}


def _auroc(
    usual: Mapping[UnusualScore, NDArray[np.float32]],
    outliers: Mapping[UnusualScore, NDArray[np.float32]],
) -> dict[UnusualScore, float]:
    def area(name: UnusualScore) -> float:
        both = np.concatenate([usual[name], outliers[name]])
        return float(roc_auc_score(np.arange(len(both)) >= len(usual[name]), both))

    return {name: area(name) for name in UNUSUAL_SCORES}


def _labels(images: ImageSet) -> NDArray[np.str_]:
    return np.array([images.label_text(row) for row in range(len(images))], dtype=np.str_)


def _read(path: Path, weights: str) -> KnownImages | None:
    """What was kept; None where it is older, or belongs to other weights, as after more epochs."""
    tensors, facts = read_tensors(path)
    if not _is_current(facts, weights):
        return None
    try:
        found = _known(tensors, facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{path} is damaged: {error}; delete it, it is made again") from error
    if not _is_whole(found):
        raise StorageError(f"{path} is damaged; delete it, it is made again")
    return found


def _known(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> KnownImages:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return KnownImages(
        arrays["features"],
        np.array(facts["labels"], dtype=np.str_),
        np.array(facts["ids"], dtype=np.str_),
        ClassGaussians(arrays["means"], arrays["precision"]),
        ClassGaussians(arrays["looks_means"], arrays["looks_precision"]),
        {name: Unit(*map(float, facts["units"][name])) for name in (*UNUSUAL_SCORES, _APPEARANCE)},
        {name: arrays[name] for name in UNUSUAL_SCORES},
        {
            kind: {name: float(areas[name]) for name in UNUSUAL_SCORES}
            for kind, areas in facts["auroc"].items()
        },
    )


def _is_whole(known: KnownImages) -> bool:
    features, gaussians, usual = known.features, known.gaussians, list(known.usual.values())
    looks = known.looks
    units = np.array([[u.mean, u.deviation] for u in known.units.values()], np.float32)
    numbers: list[NDArray[Any]] = [
        features, gaussians.means, gaussians.precision, looks.means, looks.precision, units, *usual,
    ]  # fmt: skip
    types = [each.dtype == np.float32 for each in numbers[1:]]
    return (
        features.dtype == np.float16
        and features.ndim == 2
        and len(features) == len(known.ids) == len(known.labels)
        and gaussians.means.shape[1:] == features.shape[1:]
        and gaussians.precision.shape == 2 * features.shape[1:]
        and looks.means.ndim == 2
        and len(looks.means) == 1
        and looks.precision.shape == 2 * looks.means.shape[1:]
        and bool((units[:, 1] > 0).all())
        and all(types)
        and {each.shape for each in usual} == {(len(usual[0]),)}
        and all(bool(np.isfinite(each).all()) for each in numbers)
    )
