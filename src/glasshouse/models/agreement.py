"""Whether answers in low precision are those in float32: judged by margins, not by eye.

Some tens of images hardly ever show a changed answer, even where one in a hundred changes. What
they do show is how far answers move and how narrow decisions are; a change is where the one exceeds
the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Least cosine of an image's numbers, and the largest share of first places that may change: half
# of what is promised (99.5 % the same), as some tens of images tell it roughly.
LEAST_COSINE, MOST_CHANGED = 0.995, 0.0025

# Answers in float32 and others ``(n, d)`` to the share of first places that would change.
Changed = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class PrecisionAgreement:
    """How answers compare with those in float32.

    cosine: the least of any image. changed: the share of first places that is expected to change,
    0..1; None where nothing is known of the classes.
    """

    cosine: float
    changed: float | None = None

    @property
    def is_enough(self) -> bool:
        """Whether the other answers may stand for those in float32."""
        return self.cosine >= LEAST_COSINE and (self.changed or 0.0) <= MOST_CHANGED

    def describe(self) -> str:
        """The figures in words."""
        changed = self.changed
        share = "" if changed is None else f", {changed:.2%} of the answers expected to change"
        return f"a cosine of {self.cosine:.4f} at the least{share}"


def agreement(
    expected: Tensor, found: Tensor, changed: Changed | None = None
) -> PrecisionAgreement:
    """Compare answers ``(n, d)``; what is no number agrees with nothing."""
    share = None if changed is None else changed(expected, found)
    return PrecisionAgreement(least_cosine(expected, found), share)


def least_cosine(expected: Tensor, found: Tensor) -> float:
    """The least cosine over the rows; -1 where one is no number."""
    each = torch.nn.functional.cosine_similarity(expected, found, dim=1)
    return float(torch.nan_to_num(each, nan=-1.0).min())


def changed_logits(expected: Tensor, found: Tensor) -> float:
    """The share of first places that is expected to change, of logits ``(n, k)``.

    Every margin is held against the shift of every image, in either direction, which tells far
    smaller shares than counting changes. 0 for a single class.
    """
    if expected.shape[1] < 2 or not len(expected):
        return 0.0
    first = expected.argmax(dim=1, keepdim=True)
    margins, others = _margins(expected, first), _margins(found, first)
    shifts = torch.nan_to_num((margins - others).abs(), nan=torch.inf)
    return float((shifts[None, :] > margins[:, None]).float().mean() / 2)


def changed_by_class_means(labels: Tensor, expected: Tensor, found: Tensor) -> float:
    """The same for features ``(n, d)``, as the simplest head would see them.

    Its logits are nearness to the mean of each class, in float32 and without the image itself;
    only images whose class has others count. labels ``(n,)``.
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
    """Larger, the nearer a row is to a mean, as a linear function of the row."""
    return (rows * means).sum(dim=-1) - means.square().sum(dim=-1) / 2


def _margins(logits: Tensor, first: Tensor) -> Tensor:
    """By how much the class of first is above all others ``(n,)``."""
    others = logits.scatter(1, first, -torch.inf)
    return logits.gather(1, first)[:, 0] - others.max(dim=1).values
