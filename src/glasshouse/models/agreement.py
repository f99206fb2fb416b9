"""Whether outputs in lower precision agree with those in float32, judged by margins.

A few dozen images hardly ever show a changed prediction, even if one in a hundred changes. They do
show how far outputs move and how narrow the margins are: a prediction changes where the shift
exceeds the margin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from glasshouse.wording import percentage

# The least cosine per image, and the largest share of predicted classes that may change: half of
# what the documentation promises (99.5 % equal), because a few dozen images give a rough estimate.
LEAST_COSINE, MOST_CHANGED = 0.995, 0.0025

# From outputs in float32 and others ``(n, d)`` to the share of predictions that would change.
Changed = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class PrecisionAgreement:
    """How outputs compare with those in float32.

    cosine: the smallest of any image. changed: the expected share of predicted classes that change,
    0..1; None if nothing is known about the classes.
    """

    cosine: float
    changed: float | None = None

    @property
    def is_enough(self) -> bool:
        """Whether the outputs may be used in place of those in float32."""
        return self.cosine >= LEAST_COSINE and (self.changed or 0.0) <= MOST_CHANGED

    def describe(self) -> str:
        """The numbers in words."""
        changed = self.changed
        share = (
            ""
            if changed is None
            else f", {percentage(changed, 2)} of the predictions expected to change"
        )
        return f"a cosine of at least {self.cosine:.4f}{share}"


def agreement(
    expected: Tensor, found: Tensor, changed: Changed | None = None
) -> PrecisionAgreement:
    """Compare outputs ``(n, d)``; NaN agrees with nothing."""
    share = None if changed is None else changed(expected, found)
    return PrecisionAgreement(least_cosine(expected, found), share)


def least_cosine(expected: Tensor, found: Tensor) -> float:
    """The smallest cosine of any row; -1 if there is a NaN."""
    each = torch.nn.functional.cosine_similarity(expected, found, dim=1)
    return float(torch.nan_to_num(each, nan=-1.0).min())


def changed_logits(expected: Tensor, found: Tensor) -> float:
    """The expected share of predicted classes that change, from logits ``(n, k)``.

    The margin of every image is compared with the shift of every image, in either direction, which
    resolves far smaller shares than counting changes. 0 for a single class.
    """
    if expected.shape[1] < 2 or not len(expected):
        return 0.0
    first = expected.argmax(dim=1, keepdim=True)
    margins, others = _margins(expected, first), _margins(found, first)
    shifts = torch.nan_to_num((margins - others).abs(), nan=torch.inf)
    return float((shifts[None, :] > margins[:, None]).float().mean() / 2)


def changed_by_class_means(labels: Tensor, expected: Tensor, found: Tensor) -> float:
    """The same for features ``(n, d)`` with labels ``(n,)``, as a nearest-mean head would see them.

    Its logits measure nearness to the mean of each class in float32, without the image itself; only
    images whose class has other images count.
    """
    scale = expected.std(dim=0).clamp_min(1e-6)
    ours, theirs = (each / scale - expected.mean(dim=0) / scale for each in (expected, found))
    _, labels, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    judged = torch.nonzero(counts[labels] > 1).flatten()
    member = torch.nn.functional.one_hot(labels, len(counts)).to(ours.dtype)
    means = (member.T @ ours) / counts[:, None]
    own = (means[labels] * counts[labels, None] - ours) / (counts[labels, None] - 1).clamp_min(1)
    logits = [
        torch.where(member.bool(), _nearness(each, own)[:, None], _nearness(each[:, None], means))
        for each in (ours, theirs)
    ]
    return changed_logits(logits[0][judged], logits[1][judged])


def _nearness(rows: Tensor, means: Tensor) -> Tensor:
    """Larger the closer a row is to a mean; linear in the row, as the logits of a head are."""
    return (rows * means).sum(dim=-1) - means.square().sum(dim=-1) / 2


def _margins(logits: Tensor, first: Tensor) -> Tensor:
    """By how much the logit of the class in first exceeds all others ``(n,)``."""
    others = logits.scatter(1, first, -torch.inf)
    return logits.gather(1, first)[:, 0] - others.max(dim=1).values
