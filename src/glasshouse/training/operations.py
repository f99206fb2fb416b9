"""How many floating-point operations a training takes: the one cost that no machine changes."""

import copy
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from glasshouse.data.batches import step_count
from glasshouse.data.images import ImageSet
from glasshouse.models.freezing import freeze
from glasshouse.settings import TrainSettings, TransferSettings
from glasshouse.training.muon import Muon, orthogonal
from glasshouse.training.state import TrainingState
from glasshouse.training.transfer import trainable_now

# BatchNorm needs two values per channel, and the last map may have one cell.
_IMAGES = 2
_META, _CPU = torch.device("meta"), torch.device("cpu")


def training_flop(
    state: TrainingState, settings: TrainSettings, transfer: TransferSettings, images: ImageSet
) -> int:
    """Operations of all epochs that a training has completed, those of its updates included.

    They follow from the network, its optimizer and the training images, and so are the same
    whichever processes took the steps, and after which interruptions.
    """
    shape = (3, images.height, images.width)
    parts = Counter(trainable_now(transfer, e, settings.epochs) for e in range(state.epoch))
    passes = sum(length * _part_flop(state.net, part, shape) for part, length in parts.items())
    steps = step_count(len(images), settings.batch_size, settings.shards)
    return len(images) * passes + state.epoch * steps * update_flop(state.optimizer)


def image_flop(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of training on one image: of its forward pass and its backward pass.

    net: returns logits. shape: ``(3, h, w)``. A multiply-add is two operations. What torch's
    FlopCounterMode knows is counted: convolutions, products of matrices and attention, but no sums,
    activations, pooling and normalisation. The backward pass is that of the trainable parameters.
    """
    return _counted(net, shape, _backward)


def forward_flop(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of a forward pass of one image, counted as in ``image_flop``."""
    return _counted(net, shape, lambda logits: None)


def update_flop(optimizer: Optimizer) -> int:
    """Operations of one update of the weights: the products of matrices, which only Muon has."""
    if not isinstance(optimizer, Muon):
        return 0
    with FlopCounterMode(display=False) as counter:
        for bank in optimizer.banks():
            orthogonal(torch.empty_like(bank, device=_META).flatten(1))
    return int(counter.get_total_flops())


def _backward(logits: Tensor) -> None:
    logits.sum().backward()  # type: ignore[no-untyped-call]


def _part_flop(net: nn.Module, trainable: str, shape: tuple[int, ...]) -> int:
    own = copy.deepcopy(net)
    freeze(own, trainable)
    return image_flop(own, shape)


def _counted(net: nn.Module, shape: tuple[int, ...], backward: Callable[[Tensor], object]) -> int:
    try:
        return _on(_META, net, shape, backward)  # shapes alone: nothing is computed
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
        # What a network does may depend on values, which are not there.
        return _on(_CPU, net, shape, backward)


def _on(
    device: torch.device,
    net: nn.Module,
    shape: tuple[int, ...],
    backward: Callable[[Tensor], object],
) -> int:
    own = copy.deepcopy(net).to(device).train()
    images = torch.zeros(_IMAGES, *shape, device=device)
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        backward(own(images))
    return int(counter.get_total_flops()) // _IMAGES
