"""The loss of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from glasshouse.data.batches import Batch


def batch_loss(
    logits: Tensor, batch: Batch, label_smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy in nats, shared between two labels where images were mixed.

    class_weights ``(k,)``: weight of an image by its own label; their mean should be 1.
    """
    own = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    if class_weights is not None:
        # Weighted by the own label only, so that the mean keeps its scale when images are mixed.
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
    """The number of images predicted as their own label, as a tensor on the device."""
    return (logits.detach().argmax(dim=1) == batch.labels).sum(dtype=torch.int64)
