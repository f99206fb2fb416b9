"""Folds of features, for data sets too small for a single validation split."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.data.targets import (
    Targets,
    class_counts,
    is_matrix,
    one_label_each,
    rarest_labels,
)
from glasshouse.errors import DataError, UsageError
from glasshouse.models.predict import log_softmax
from glasshouse.rng import keys_of, permutation
from glasshouse.training.features import Features
from glasshouse.training.heads import HeadSettings, fit_heads, head_logits
from glasshouse.training.losses import image_losses

Positions = NDArray[np.int64]


def assign_folds(ids: NDArray[np.str_], targets: Targets, folds: int, *, seed: int) -> Positions:
    """A fold ``(n,)`` for each image, by a hash of its id and evenly within each class.

    Where images may have several labels, evenly within the rarest label of each. Raises UsageError
    for fewer than two folds, DataError where a class has fewer images.
    """
    if folds < 2:
        raise UsageError(f"--folds: expected 2 or more, received {folds}")
    counts = class_counts(targets, 0)
    if counts[counts > 0].min() < folds:
        raise DataError(
            f"a class has {counts[counts > 0].min()} images, fewer than the {folds} folds: each "
            "fold needs an image of every class. Use fewer folds, or add images."
        )
    labels = rarest_labels(targets)
    fold_of = np.empty(len(ids), dtype=np.int64)
    order = permutation(seed, "folds", 0, keys_of(ids))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        # Classes start at different folds, so that small ones do not all fill the first.
        fold_of[own] = (np.arange(len(own)) + label) % folds
    return fold_of


def join(parts: Sequence[Features]) -> Features:
    """The features of several sets concatenated, in memory."""
    mirrored = [part.mirrored for part in parts if part.mirrored is not None]
    return Features(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.ids for part in parts]),
        parts[0].class_names,
        np.concatenate(mirrored) if len(mirrored) == len(parts) else None,
    )


def rows_of(features: Features, positions: Positions) -> Features:
    """The features of the images at these positions."""
    mirrored = None if features.mirrored is None else features.mirrored[positions]
    return replace(
        features,
        values=features.values[positions],
        targets=features.targets[positions],
        ids=features.ids[positions],
        mirrored=mirrored,
    )


def held_out_logits(
    features: Features, fold_of: Positions, settings: HeadSettings
) -> NDArray[np.float32]:
    """Logits ``(heads, n, k)`` of every image from heads that have not seen it.

    The heads are those of ``fit_heads``, in its order, fitted once per fold.
    """
    folds = int(fold_of.max()) + 1
    found: list[list[NDArray[np.float32]]] = []
    for fold in range(folds):
        held = rows_of(features, np.flatnonzero(fold_of == fold))
        seen = rows_of(features, np.flatnonzero(fold_of != fold))
        fits = fit_heads(seen, held, settings)
        found.append([head_logits(fit.layers, held.values) for fit in fits])
    logits = np.empty((len(found[0]), len(features), len(features.class_names)), dtype=np.float32)
    for fold, answers in enumerate(found):
        logits[:, fold_of == fold] = np.stack(answers)
    return logits


def mean_losses(logits: NDArray[np.float32], targets: Targets) -> NDArray[np.float64]:
    """Mean loss in nats ``(heads,)`` of logits ``(heads, n, k)``."""
    if is_matrix(targets):
        known = torch.from_numpy(targets)
        each = [image_losses(torch.from_numpy(own), known).mean().item() for own in logits]
        return np.array(each)
    labels = one_label_each(targets)
    own = np.take_along_axis(log_softmax(logits), labels[None, :, None], axis=2)[:, :, 0]
    losses: NDArray[np.float64] = -own.mean(axis=1)
    return losses
