"""The loss of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from glasshouse.data.batches import Batch


def batch_loss(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Mean cross-entropy in nats; where pictures were mixed, the two labels share it."""
    own = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, reduction="none")
    if batch.partner_labels is None or batch.own_share is None:
        return own.mean()
    partner = cross_entropy(
        logits, batch.partner_labels, label_smoothing=label_smoothing, reduction="none"
    )
    return (batch.own_share * own + (1 - batch.own_share) * partner).mean()


def correct_count(logits: Tensor, batch: Batch) -> Tensor:
    """How many pictures of the batch are given their own label, as a tensor on the device."""
    return (logits.detach().argmax(dim=1) == batch.labels).sum(dtype=torch.int64)
