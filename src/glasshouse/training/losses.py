"""The loss of a batch: of one label per image, of several, or a loss of the user's own."""

import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from glasshouse.data.batches import Batch
from glasshouse.errors import UsageError
from glasshouse.training.own_parts import Loss, own_loss


@lru_cache(maxsize=8)
def weights_on(device: torch.device, class_weights: tuple[float, ...]) -> Tensor:
    """Class weights ``(k,)`` as a tensor on a device, to which they move once."""
    return torch.tensor(class_weights).to(device)


def batch_loss(
    logits: Tensor,
    batch: Batch,
    label_smoothing: float,
    class_weights: Tensor | None = None,
    loss: Loss | None = None,
) -> Tensor:
    """Mean loss in nats, shared between the labels of two images where images were mixed.

    class_weights ``(k,)``: weight of an image by its own label; their mean should be 1. loss: one
    of the user's own, which label smoothing does not reach. Raises UsageError where images are
    mixed or classes weighted, but a loss of the user's returns a mean.
    """
    each: Loss = partial(image_losses, label_smoothing=label_smoothing)
    if loss is not None:
        each = partial(own_loss, loss)
    values = each(logits, batch.labels)
    is_mixed = batch.partner_labels is not None
    if (is_mixed or class_weights is not None) and values.shape != (len(logits),):
        raise UsageError(
            f"the loss returns a mean, but {'mixed images' if is_mixed else 'class weights'} need "
            "a value per image (n,): use reduction='none', or leave them out of the settings"
        )
    if batch.partner_labels is not None and batch.own_share is not None:
        partner = each(logits, batch.partner_labels)
        values = batch.own_share * values + (1 - batch.own_share) * partner
    if class_weights is not None:
        # Weighted by the own label only, so that the mean keeps its scale when images are mixed.
        values = class_weights[batch.labels] * values
    return values.mean()


def image_losses(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of each image ``(n,)`` in nats.

    labels: positions ``(n,)``; or bool ``(n, k)``, of which the loss is the mean over the labels.
    Smoothing then moves each target towards a half, as it moves a single label towards all classes.
    """
    if labels.ndim == 1:
        return cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    targets = labels.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def correct_images(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each image is answered correctly ``(n,)``: its only label, or all its labels.

    Several labels count as predicted from a probability of a half on.
    """
    if labels.ndim == 1:
        return logits.argmax(dim=1) == labels
    return ((logits >= 0) == labels).all(dim=1)


def correct_count(logits: Tensor, labels: Any) -> Tensor:
    """The number of images predicted as their own label or labels, as a tensor on the device.

    Float labels ``(n, k)`` are shares of the classes, of which the largest counts; nan for labels
    that are no classes.
    """
    if not isinstance(labels, Tensor):
        return torch.tensor(math.nan)
    if labels.dtype != torch.bool and labels.shape == logits.shape:
        labels = labels.argmax(dim=1)
    is_class = labels.dtype == torch.bool or not labels.is_floating_point()
    if not is_class or labels.shape not in (logits.shape[:1], logits.shape):
        return torch.tensor(math.nan)
    return correct_images(logits.detach(), labels).sum(dtype=torch.int64)
