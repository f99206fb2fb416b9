"""Which of several heads to keep: by the validation part, or by folds where that is small."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glasshouse.models.predict import Predictions
from glasshouse.training.features import Features
from glasshouse.training.folds import assign_folds, held_out_logits, join, mean_losses
from glasshouse.training.heads import HeadFit, HeadSettings, best_head, fit_heads

# Fewer validation images than this can hardly tell one head from another.
FEW = 200
_FOLDS = 5


@dataclass(frozen=True)
class HeadChoice:
    """Every head fitted to the training features, and the one to keep.

    fold_losses: by how much each is wrong on images held out in turn, in nats; empty where the
    validation part decided. held_out: what the kept one says of those images, else None.
    """

    fits: tuple[HeadFit, ...]
    best: HeadFit
    fold_losses: tuple[float, ...] = ()
    held_out: Predictions | None = None

    def describe(self) -> str:
        """How the head was chosen, in a sentence."""
        found = f"{len(self.fits)} heads were tried" if len(self.fits) > 1 else "One head was tried"
        if self.held_out is None:
            return f"{found}; kept by validation loss: {self.best.describe()}."
        right = (self.held_out.logits.argmax(axis=1) == self.held_out.labels).mean()
        return (
            f"{found}; since validation has few images, the choice and the temperature come from "
            f"{len(self.held_out)} training and validation images, each judged by heads that had "
            f"not seen it ({right:.1%} right): kept {self.best.title()}."
        )


def choose_head(train: Features, validation: Features, settings: HeadSettings) -> HeadChoice:
    """Fit every head to the training features and choose by validation loss.

    With fewer than 200 validation images, by the loss on training and validation images that
    are held out in turn; both then need mirrored features, or neither.
    """
    fits = tuple(fit_heads(train, validation, settings))
    fewest = _fewest([train, validation])
    if len(validation) >= FEW or fewest < 2:
        return HeadChoice(fits, best_head(fits))
    whole = join([train, validation])
    fold_of = assign_folds(whole.ids, whole.labels, min(_FOLDS, fewest), seed=settings.seed)
    logits = held_out_logits(whole, fold_of, settings)
    losses = mean_losses(logits, whole.labels)
    best = int(losses.argmin())
    held_out = Predictions(logits[best], whole.labels, whole.ids, whole.class_names)
    return HeadChoice(fits, fits[best], tuple(float(loss) for loss in losses), held_out)


def _fewest(parts: Sequence[Features]) -> int:
    """Images of the smallest class."""
    labels = np.concatenate([part.labels for part in parts])
    return int(np.bincount(labels, minlength=len(parts[0].class_names)).min())
