"""Batches, loss and optimizer that users bring to the training loop.

Mistakes that would silently train something else are refused: images scaled to 0..1, a loss that
expects log-probabilities, an optimizer over another network's weights.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from glasshouse.data.batches import Batch
from glasshouse.errors import DataError, UsageError

# Called with the epoch, counted from 0; yields (images, labels).
BatchSource = Callable[[int], Iterable[Any]]
# Called with logits (n, k) and labels; returns a mean, or a value per image.
Loss = Callable[[Tensor, Any], Tensor]
# Called with the network to be trained, which is a copy of the one that was passed.
MakeOptimizer = Callable[[nn.Module], Optimizer]

# Values of images reach 255; those of normalised inputs stay far below.
_SCALED = 10.0


class OwnParts(TypedDict, total=False):
    """What takes the place of the batches, the loss and the optimizer of the settings."""

    batches: BatchSource | None
    loss: Loss | None
    optimizer: MakeOptimizer | None


def own_optimizer(net: nn.Module, make: MakeOptimizer) -> Optimizer:
    """The optimizer that a function makes for this network.

    The schedule scales the learning rates of its groups, which keep their ratios. Raises UsageError
    for anything but a function that returns an optimizer of the network's own weights.
    """
    _require_function(make)
    try:
        optimizer = make(net)
    except TypeError as error:
        # What a class or a partial of one says that was given a network in place of weights.
        if "params" not in str(error):
            raise
        raise UsageError(_optimizer_advice("what takes weights, not a network")) from error
    if not isinstance(optimizer, Optimizer):
        raise UsageError(_optimizer_advice(f"one that returns a {type(optimizer).__name__}"))
    if isinstance(optimizer, LBFGS):
        raise UsageError(
            "LBFGS evaluates the loss several times per step, which the loop does not: expected an "
            "optimizer whose step() takes no closure"
        )
    groups = optimizer.param_groups
    own = {id(p) for p in net.parameters()}
    if not any(id(p) in own for group in groups for p in group["params"]):
        raise UsageError(
            "the optimizer has no weights of the network that is trained, which is a copy of yours:"
            " use the network that your function is called with"
        )
    peak = max(float(group["lr"]) for group in groups)
    for group in groups:
        group["initial_lr"] = float(group["lr"])
        group["lr_factor"] = float(group["lr"]) / peak if peak else 1.0
    return optimizer


def own_rate(optimizer: Optimizer) -> float | None:
    """The highest learning rate that an optimizer brought along, None for one of the settings."""
    rates = [group["initial_lr"] for group in optimizer.param_groups if "initial_lr" in group]
    return max(rates) if rates else None


def with_rate(make: MakeOptimizer, lr: float) -> MakeOptimizer:
    """The same optimizer with another highest learning rate; its groups keep their ratios."""

    def made(net: nn.Module) -> Optimizer:
        optimizer = own_optimizer(net, make)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        return optimizer

    return made


def own_loss(loss: Loss, logits: Tensor, labels: Any) -> Tensor:
    """What a loss of the user's returns: a scalar, or a value per image ``(n,)``.

    Raises UsageError for anything else, and for a loss that does not take these arguments.
    """
    if isinstance(loss, nn.NLLLoss) or loss is nn.functional.nll_loss:
        raise UsageError(
            "NLLLoss takes log-probabilities, and the network returns logits: expected a loss of "
            "logits, such as torch.nn.CrossEntropyLoss()"
        )
    try:
        value = loss(logits, labels)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the loss failed on logits {tuple(logits.shape)} and labels {_kind(labels)}: {reason}"
        ) from error
    if not isinstance(value, Tensor) or value.shape not in ((), (1,), (len(logits),)):
        raise UsageError(
            "loss: expected a function of logits (n, k) and labels that returns a scalar tensor or "
            f"a value per image (n,); it returned {_kind(value)}"
        )
    if torch.is_grad_enabled() and not value.requires_grad:
        raise UsageError(
            "the loss has no gradient: expected one that is computed from the logits with torch, "
            "without detach(), item() or numpy()"
        )
    return value


def own_batches(
    source: BatchSource, epoch: int, first_step: int, device: torch.device
) -> tuple[Iterator[Batch], int | None]:
    """The batches of an epoch from first_step on, and how many it has, where that is known.

    Raises UsageError for what is no function of the epoch and for what it yields that is no pair of
    images and labels, DataError for an epoch without batches.
    """
    if not callable(source):
        raise UsageError(
            "batches: expected a function that is called with the epoch, counted from 0, and "
            f"returns an iterable of (images, labels); received a {type(source).__name__}. For a "
            "DataLoader pass from_dataloader(loader)"
        )
    pairs = source(epoch)
    if not isinstance(pairs, Iterable):
        raise UsageError(
            f"batches({epoch}): expected an iterable of (images, labels), received a "
            f"{type(pairs).__name__}"
        )
    return _checked(pairs, epoch, first_step, device), _length(pairs)


def as_labels(labels: Any, class_count: int, where: str, *, are_several: bool = False) -> Tensor:
    """Labels as the built-in loss takes them, int64 ``(n,)`` below class_count.

    are_several: bool ``(n, class_count)``, for images that may have several labels. Raises
    DataError for others, which need a loss of their own.
    """
    if are_several:
        return _as_matrix(labels, class_count, where)
    is_tensor = isinstance(labels, Tensor)
    if not is_tensor or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"{where}: expected labels (n,) as whole numbers, received {_kind(labels)}; for other "
            "labels pass a loss of your own: loss=..."
        )
    values: Tensor = labels
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < class_count:
        raise DataError(
            f"{where}: expected labels 0 to {class_count - 1}, received {int(values.min())} to "
            f"{int(values.max())}"
        )
    return values.to(torch.int64)


def _as_matrix(labels: Any, class_count: int, where: str) -> Tensor:
    is_matrix = isinstance(labels, Tensor) and labels.dtype == torch.bool and labels.ndim == 2
    if not is_matrix or labels.shape[1] != class_count:
        raise DataError(
            f"{where}: expected bool labels (n, {class_count}), as the images may have several "
            f"each; received {_kind(labels)}; for other labels pass a loss of your own: loss=..."
        )
    matrix: Tensor = labels
    return matrix


def _length(pairs: Iterable[Any]) -> int | None:
    try:
        return len(pairs)  # type: ignore[arg-type]
    # A generator has no length; a DataLoader of streamed data has one that it does not know.
    except TypeError:
        return None


def _checked(
    pairs: Iterable[Any], epoch: int, first_step: int, device: torch.device
) -> Iterator[Batch]:
    step = first_step
    for pair in islice(pairs, first_step, None):
        where = f"batches({epoch}), batch {step + 1}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UsageError(
                f"{where}: expected (images, labels), received a {type(pair).__name__}; for a "
                "DataLoader pass from_dataloader(loader)"
            )
        images = _as_images(pair[0], where).to(device)
        labels = pair[1]
        if isinstance(labels, Tensor | np.ndarray):
            labels = torch.as_tensor(labels).to(device)
        yield Batch(step, images, labels, np.arange(len(images)))
        step += 1
    if step == 0:
        raise DataError(
            f"batches({epoch}) yields nothing: expected a new iterable for each epoch, not one "
            "that is used up after the first"
        )


def _as_images(images: Any, where: str) -> Tensor:
    values = torch.as_tensor(images)
    if values.ndim != 4 or values.shape[1] != 3 or not values.numel():
        is_last = values.ndim == 4 and values.shape[3] == 3
        hint = "; move the channels with .permute(0, 3, 1, 2)" if is_last else ""
        raise DataError(
            f"{where}: expected images (n, 3, height, width), received {_kind(values)}{hint}"
        )
    if values.dtype == torch.uint8:
        return values
    largest = float(values.abs().max())
    if largest <= _SCALED and not bool((values == values.round()).all()):
        raise DataError(
            f"{where}: expected images with values 0 to 255, received values up to {largest:.3g}, "
            "which look scaled: the loop applies the preprocessing itself. Multiply by 255, or "
            "undo the normalisation; from_dataloader does so for a DataLoader"
        )
    return values.float()


def _require_function(make: object) -> None:
    if isinstance(make, Optimizer):
        raise UsageError(_optimizer_advice("an optimizer, whose weights are not those of the copy"))
    if isinstance(make, type) and issubclass(make, Optimizer):
        raise UsageError(_optimizer_advice(f"the class {make.__name__}"))
    if not callable(make):
        raise UsageError(_optimizer_advice(f"a {type(make).__name__}"))


def _optimizer_advice(received: str) -> str:
    return (
        "optimizer: expected a function from a network to its optimizer, such as lambda net: "
        f"torch.optim.RMSprop(net.parameters(), lr=0.001); received {received}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"a {type(value).__name__}"
