"""How good the answers to the validation split are, after each epoch."""

import math

import torch
from torch import Tensor

from glasshouse.data.images import ImageSet
from glasshouse.errors import DivergedError
from glasshouse.training.losses import correct_images, image_losses
from glasshouse.training.own_parts import Loss, own_loss
from glasshouse.wording import first_of


def loss_and_accuracy(
    logits: Tensor, images: ImageSet, epoch: int, loss: Loss | None, device: torch.device
) -> tuple[float, float]:
    """Mean loss and accuracy of logits ``(n, k)`` on the CPU.

    loss: one of the user's own, computed on the device of training, where weights inside it may be.
    Raises DivergedError, naming images and epoch, when the loss is not finite.
    """
    labels = torch.from_numpy(images.targets)
    if loss is None:
        mean = image_losses(logits, labels).mean().item()
    else:
        with torch.no_grad():
            mean = own_loss(loss, logits.to(device), labels.to(device)).mean().item()
    if not math.isfinite(mean):
        bad = images.ids[(~logits.isfinite().all(dim=1)).numpy()].tolist()
        where = f"The answers for {first_of(bad)} are not finite. " if bad else ""
        raise DivergedError(
            f"the validation loss became {mean} after epoch {epoch}. {where}"
            "Lower train.lr or set train.gradient_clip=1."
        )
    return mean, correct_images(logits, labels).float().mean().item()
