"""Which of several heads to keep: by the validation split, or by folds where that is small."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.data.targets import class_counts
from glasshouse.models.predict import Predictions
from glasshouse.training.features import Features
from glasshouse.training.folds import assign_folds, held_out_logits, join, mean_losses
from glasshouse.training.heads import HeadFit, HeadSettings, best_head, fit_heads
from glasshouse.training.losses import correct_images
from glasshouse.wording import percentage

# With fewer validation images, the best of several heads is mostly chance.
FEW = 200
_FOLDS = 5


@dataclass(frozen=True)
class HeadChoice:
    """Every head fitted to the training features, and the one to keep.

    fold_losses: cross-validated loss of each in nats; empty where the validation split decided.
    held_out: the cross-validated predictions of the kept head, else None.
    """

    fits: tuple[HeadFit, ...]
    best: HeadFit
    fold_losses: tuple[float, ...] = ()
    held_out: Predictions | None = None

    def describe(self) -> str:
        """How the head was chosen, in one sentence."""
        found = f"{len(self.fits)} heads were tried" if len(self.fits) > 1 else "One head was tried"
        if self.held_out is None:
            return f"{found}; kept for its validation loss: {self.best.describe()}."
        logits = torch.from_numpy(self.held_out.logits)
        right = correct_images(logits, torch.from_numpy(self.held_out.targets)).float().mean()
        return (
            f"{found}; because the validation split is small, choice and temperature come from "
            f"{len(self.held_out)} training and validation images, each predicted by heads that "
            f"had not seen it ({percentage(float(right), 1)} correct): kept {self.best.title()}."
        )


def choose_head(train: Features, validation: Features, settings: HeadSettings) -> HeadChoice:
    """Fit every head to the training features and choose by validation loss.

    With fewer than 200 validation images, choose by cross-validation over training and validation
    images together; mirrored features are then needed of both, or neither.
    """
    fits = tuple(fit_heads(train, validation, settings))
    fewest = _fewest([train, validation])
    if len(validation) >= FEW or fewest < 2:
        return HeadChoice(fits, best_head(fits))
    whole = join([train, validation])
    fold_of = assign_folds(whole.ids, whole.targets, min(_FOLDS, fewest), seed=settings.seed)
    logits = held_out_logits(whole, fold_of, settings)
    losses = mean_losses(logits, whole.targets)
    best = int(losses.argmin())
    held_out = head_answers(logits[best], whole)
    return HeadChoice(fits, fits[best], tuple(float(loss) for loss in losses), held_out)


def head_answers(logits: NDArray[np.float32], features: Features) -> Predictions:
    """The predictions of a head, before any calibration."""
    thresholds = (0.5,) * len(features.class_names) if features.is_multi_label else None
    return Predictions(
        logits=logits,
        targets=features.targets,
        ids=features.ids,
        class_names=features.class_names,
        thresholds=thresholds,
    )


def _fewest(parts: Sequence[Features]) -> int:
    """The number of images of the smallest class."""
    targets = np.concatenate([part.targets for part in parts])
    return int(class_counts(targets, len(parts[0].class_names)).min())
