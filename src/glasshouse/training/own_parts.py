"""Batches, loss and optimizer that users bring to the training loop.

Mistakes that would silently train something else are refused: images scaled to 0..1, a loss that
expects log-probabilities, an optimizer over another network's weights.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from glasshouse.data.batches import Batch
from glasshouse.data.device_copy import brought
from glasshouse.errors import DataError, UsageError, nearest, type_words
from glasshouse.setting_errors import nearest_key
from glasshouse.settings import TrainSettings

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


def require_own_parts(own: Mapping[str, object]) -> None:
    """Raise UsageError for other parts, such as a setting that belongs into TrainSettings."""
    for name, value in own.items():
        if name in OwnParts.__annotations__:
            continue
        if name in TrainSettings.model_fields:
            raise UsageError(
                f"{name} is a setting: expected TrainSettings({name}={value!r}) after the splits"
            )
        near = nearest(name, OwnParts.__annotations__)
        hint = nearest_key((), name, TrainSettings) if near is None else f"Did you mean '{near}'?"
        hint = "" if hint.startswith("Known") else f" {hint}"
        raise UsageError(f"no argument or setting {name!r}.{hint}")


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
        raise UsageError(_optimizer_advice(f"one that returns {type_words(optimizer)}"))
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

    Several labels per image reach it as floats ``(n, k)`` of 0 and 1.

    Raises UsageError for anything else, and for a loss that does not take these arguments.
    """
    if isinstance(loss, nn.NLLLoss) or loss is nn.functional.nll_loss:
        raise UsageError(
            "NLLLoss takes log-probabilities, and the network returns logits: expected a loss of "
            "logits, such as torch.nn.CrossEntropyLoss()"
        )
    # Losses of torch multiply them.
    if isinstance(labels, Tensor) and labels.dtype == torch.bool and labels.ndim == 2:
        labels = labels.to(logits.dtype)
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


@dataclass(frozen=True)
class WantedBatches:
    """What batches have to be, and the device that they are brought to.

    size: height and width of the images. are_several: whether an image may have several labels;
    numbers 0 and 1 for each label then count as truth values. classes: how many there are, None
    where a loss of the user's own takes whatever the labels are.
    """

    size: tuple[int, int]
    device: torch.device
    are_several: bool = False
    classes: int | None = None


def own_batches(
    source: BatchSource, epoch: int, first_step: int, wanted: WantedBatches
) -> tuple[Iterator[Batch], int | None]:
    """The batches of an epoch from first_step on, and how many it has, where that is known.

    Raises UsageError for what is no function of the epoch and for what it yields that is no pair of
    images and labels, DataError for an epoch without batches, for images that are scaled or have
    another size, and for labels that are no classes.
    """
    if not callable(source):
        raise UsageError(
            "batches: expected a function that is called with the epoch, counted from 0, and "
            f"returns an iterable of (images, labels); received {type_words(source)}. For a "
            "DataLoader pass from_dataloader(loader)"
        )
    pairs = source(epoch)
    if not isinstance(pairs, Iterable):
        raise UsageError(
            f"batches({epoch}): expected an iterable of (images, labels), received a "
            f"{type(pairs).__name__}"
        )
    return _checked(pairs, epoch, first_step, wanted), _length(pairs)


def as_truth(labels: Any) -> Any:
    """Numbers 0 and 1 as bool, as loaders have them for several labels; others unchanged."""
    if not isinstance(labels, Tensor) or labels.ndim != 2 or labels.dtype == torch.bool:
        return labels
    is_binary = bool(((labels == 0) | (labels == 1)).all())
    return labels.bool() if is_binary else labels


def as_labels(
    labels: Any, shape: tuple[int, int], where: str, *, are_several: bool = False
) -> Tensor:
    """Labels as the built-in loss and class weights take them, int64 ``(n,)`` below k.

    shape: n and k, the numbers of images and of classes. are_several: bool ``(n, k)``, for images
    that may have several labels. Raises DataError for others, which need a loss of their own.
    """
    count, class_count = shape
    fits = isinstance(labels, Tensor) and (
        labels.shape == shape and labels.dtype == torch.bool
        if are_several
        else labels.shape == (count,) and not (labels.is_floating_point() or labels.is_complex())
    )
    if not fits:
        expected = f"labels ({count},) as whole numbers"
        if are_several:
            expected = f"labels {shape} of 0 and 1, one for each label of an image"
        raise DataError(
            f"{where}: expected {expected}, received {_kind(labels)}; for other labels pass a loss "
            "of your own, loss=..., and no class weights"
        )
    values: Tensor = labels
    if are_several:
        return values
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < class_count:
        raise DataError(
            f"{where}: expected labels 0 to {class_count - 1}, received {int(values.min())} to "
            f"{int(values.max())}"
        )
    return values.to(torch.int64)


def _length(pairs: Iterable[Any]) -> int | None:
    try:
        return len(pairs)  # type: ignore[arg-type]
    # A generator has no length; a DataLoader of streamed data has one that it does not know.
    except TypeError:
        return None


def _checked(
    pairs: Iterable[Any], epoch: int, first_step: int, wanted: WantedBatches
) -> Iterator[Batch]:
    step = first_step
    for pair in islice(pairs, first_step, None):
        where = f"batches({epoch}), batch {step + 1}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UsageError(
                f"{where}: expected (images, labels), received {type_words(pair)}; for a "
                "DataLoader pass from_dataloader(loader)"
            )
        images = _as_images(pair[0], where)
        if images.shape[2:] != wanted.size:
            raise DataError(
                f"{where}: expected images of {wanted.size[0]}x{wanted.size[1]} pixels, as those "
                f"of the training split, received {images.shape[2]}x{images.shape[3]}"
            )
        # Where they came from, as reading values of a GPU would wait for it in every step.
        labels = _as_wanted(pair[1], len(images), wanted, where)
        if isinstance(labels, Tensor):
            labels = brought(labels, wanted.device)
        yield Batch(step, brought(images, wanted.device), labels, np.arange(len(images)))
        step += 1
    if step == 0:
        raise DataError(
            f"batches({epoch}) yields nothing: expected a new iterable for each epoch, not one "
            "that is used up after the first"
        )


def _as_wanted(labels: Any, count: int, wanted: WantedBatches, where: str) -> Any:
    """Labels of this many images as the loss takes them."""
    if isinstance(labels, np.ndarray):
        labels = torch.as_tensor(labels)
    if wanted.are_several:
        labels = as_truth(labels)
    if wanted.classes is None:
        return labels
    return as_labels(labels, (count, wanted.classes), where, are_several=wanted.are_several)


def require_image_shape(values: Tensor, where: str) -> None:
    """Raise DataError, if possible with the remedy, for anything but ``(n, 3, h, w)``."""
    if values.ndim == 4 and values.shape[1] == 3 and values.numel():
        return
    hint = ""
    if values.ndim == 4 and values.shape[3] == 3:
        hint = "; move the channels with .permute(0, 3, 1, 2)"
    elif values.ndim == 4 and values.shape[1] == 1:
        hint = "; repeat the grey channel with .expand(-1, 3, -1, -1)"
    raise DataError(
        f"{where}: expected images (n, 3, height, width), received {_kind(values)}{hint}"
    )


def _as_images(images: Any, where: str) -> Tensor:
    values = torch.as_tensor(images)
    require_image_shape(values, where)
    if values.dtype == torch.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    # Nearly black images reach no more than a few units, but have no negative values.
    if 0 < high <= 1 or (low < 0 and high <= _SCALED):
        raise DataError(
            f"{where}: expected images with values 0 to 255, received values {low:.3g} to "
            f"{high:.3g}, which look scaled: the loop applies the preprocessing itself. Multiply "
            "by 255, or undo the normalisation; from_dataloader does so for a DataLoader"
        )
    return values.float()


def _require_function(make: object) -> None:
    if isinstance(make, Optimizer):
        raise UsageError(_optimizer_advice("an optimizer, whose weights are not those of the copy"))
    if isinstance(make, type) and issubclass(make, Optimizer):
        raise UsageError(_optimizer_advice(f"the class {make.__name__}"))
    if not callable(make):
        raise UsageError(_optimizer_advice(type_words(make)))


def _optimizer_advice(received: str) -> str:
    return (
        "optimizer: expected a function from a network to its optimizer, such as lambda net: "
        f"torch.optim.RMSprop(net.parameters(), lr=0.001); received {received}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type_words(value)
