"""Which training images a photo resembles, by the features of the network just before its head."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.images import ImageSet
from glasshouse.errors import StorageError
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing
from glasshouse.models.forward import predict_logits, require_finite
from glasshouse.models.neighbours import nearest_rows, unit_rows
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json, read_tensors, write_tensors
from glasshouse.workflow.use.run_splits import require_images_of_run, splits_of_run

SIMILAR = 5
# A photo is said to be unlike the training images where fewer validation images than this are.
_RARE = 0.05


@dataclass(frozen=True)
class KnownImages:
    """The features of a run's training images, and how far its validation images are from them.

    features ``(m, d)``: of unit length, in half precision. labels, ids ``(m,)``. far ``(v,)``: the
    distance of each validation image to its fifth nearest training image, sorted.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]
    far: NDArray[np.float32]


@dataclass(frozen=True)
class Similar:
    """The training images nearest to one photo, nearest first, and how unusual it is.

    distances: Euclidean, between features of unit length, in 0..2. p_value: the share of validation
    images that are at least as far from the training images; None without any.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    distances: tuple[float, ...]
    p_value: float | None

    def lines(self) -> tuple[str, ...]:
        """What the photo resembles as text, with a sentence where it is unlike all of them."""
        rows = zip(self.labels, self.distances, self.ids, strict=True)
        found = tuple(f"resembles {label} ({distance:.3f}): {id_}" for label, distance, id_ in rows)
        if self.p_value is None or self.p_value >= _RARE:
            return found
        said = (
            f"unlike the training images: only {100 * self.p_value:.2g} % of the validation images "
            "are as far from them, so do not rely on the answer"
        )
        return (*found, said)

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        rows = zip(self.ids, self.labels, self.distances, strict=True)
        nearest = [{"image": i, "label": name, "distance": round(d, 6)} for i, name, d in rows]
        return {"nearest": nearest, "p_value": self.p_value, "words": list(self.lines())}


def features_of(
    body: nn.Module, preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Features ``(n, d)`` of unit length, for a network without its head."""
    found = predict_logits(body, preprocessing, pixels).flatten(1)
    require_finite(found)
    return unit_rows(found.numpy())


def known_images(
    run: Path, classifier: Classifier, *, data_dir: Path | None = None, offline: bool = False
) -> KnownImages:
    """Those of a run; computed when they are first asked for, and kept in the run folder.

    Raises DataError where its images have changed, ModelError for a network with several heads, and
    what `load_splits` raises.
    """
    runs.require_trained(run)
    weights = read_json(run / MODEL_FILE)["weights"]["sha256"]
    path = run / runs.TRAINING_FEATURES
    if path.is_file():
        found = _read(path, weights)
        if found is not None:
            return found
    known = _computed(run, classifier, data_dir, offline)
    tensors = {
        "features": torch.from_numpy(known.features),
        "far": torch.from_numpy(known.far),
    }
    facts = {"weights": weights, "ids": known.ids.tolist(), "labels": known.labels.tolist()}
    write_tensors(path, tensors, facts)
    return known


def similar_images(
    known: KnownImages, features: NDArray[np.float32], count: int = SIMILAR
) -> list[Similar]:
    """For each photo, by its features ``(n, d)``, the training images that it resembles most."""
    near = nearest_rows(known.features, features, max(count, SIMILAR))
    return [
        Similar(
            ids=tuple(known.ids[rows[:count]].tolist()),
            labels=tuple(known.labels[rows[:count]].tolist()),
            distances=tuple(distances[:count].tolist()),
            p_value=_p_value(known.far, float(_fifth(distances[None])[0])),
        )
        for rows, distances in zip(near.rows, near.distances, strict=True)
    ]


def _p_value(far: NDArray[np.float32], distance: float) -> float | None:
    """Valid for a photo like the validation images: it then is below 0.05 for 5 % of them."""
    if not len(far):
        return None
    farther = len(far) - int(np.searchsorted(far, distance, side="left"))
    return (farther + 1) / (len(far) + 1)


def _fifth(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distance to the fifth nearest image, or the last of fewer, ``(n,)``."""
    return distances[:, min(SIMILAR, distances.shape[1]) - 1]


def _computed(
    run: Path, classifier: Classifier, data_dir: Path | None, offline: bool
) -> KnownImages:
    facts = runs.read_run(run)
    splits = splits_of_run(facts, data_dir=data_dir, offline=offline)
    require_images_of_run(splits, facts)
    body = backbone_of(classifier.net)
    train, validation = (
        features_of(body, classifier.preprocessing, each.pixels)
        for each in (splits.train, splits.validation)
    )
    half = train.astype(np.float16)
    # Images that were trained on say nothing about others.
    others = validation[:0] if facts.recipe.data.train_on_validation else validation
    far = _fifth(nearest_rows(half, others, SIMILAR).distances) if len(others) else others[:, 0]
    return KnownImages(half, _labels(splits.train), splits.train.ids, np.sort(far))


def _labels(images: ImageSet) -> NDArray[np.str_]:
    return np.array([images.label_text(row) for row in range(len(images))], dtype=np.str_)


def _read(path: Path, weights: str) -> KnownImages | None:
    """What was kept; None where it belongs to other weights, as after more epochs."""
    tensors, facts = read_tensors(path)
    try:
        if facts["weights"] != weights:
            return None
        features, far = tensors["features"].numpy(), tensors["far"].numpy()
        ids, labels = (np.array(facts[key], dtype=np.str_) for key in ("ids", "labels"))
        is_whole = (
            features.dtype == np.float16
            and features.ndim == 2
            and len(features) == len(ids) == len(labels)
            and far.dtype == np.float32
            and far.ndim == 1
            and bool(np.isfinite(features).all() and np.isfinite(far).all())
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path} is damaged: {error}; delete it, it is made again") from error
    if not is_whole:
        raise StorageError(f"{path} is damaged; delete it, it is made again")
    return KnownImages(features, labels, ids, far)
