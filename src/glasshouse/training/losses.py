"""The loss of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from glasshouse.data.batches import Batch


def batch_loss(
    logits: Tensor, batch: Batch, label_smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy in nats; where images were mixed, the two labels share it.

    class_weights ``(k,)``: what each image counts by its own label; their mean should be 1.
    """
    own = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    if class_weights is not None:
        # By the image's own label throughout, so that the mean stays on the scale of the others.
        return (class_weights[batch.labels] * _shared(own, logits, batch, label_smoothing)).mean()
    return _shared(own, logits, batch, label_smoothing).mean()


def _shared(own: Tensor, logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """The loss of each image ``(n,)``, shared between two labels where images were mixed."""
    if batch.partner_labels is None or batch.own_share is None:
        return own
    partner = cross_entropy(
        logits, batch.partner_labels, label_smoothing=label_smoothing, reduction="none"
    )
    return batch.own_share * own + (1 - batch.own_share) * partner


def correct_count(logits: Tensor, batch: Batch) -> Tensor:
    """How many images of the batch are given their own label, as a tensor on the device."""
    return (logits.detach().argmax(dim=1) == batch.labels).sum(dtype=torch.int64)
