"""How many floating-point operations a training takes: the one cost that no machine changes."""

import copy
import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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
# Parameters of a network that is counted without values, which imports torch's compiler: 1.4 s.
_LARGE = 50_000_000


def training_flop(
    state: TrainingState, settings: TrainSettings, transfer: TransferSettings, images: ImageSet
) -> int | None:
    """Operations of all epochs that a training has completed, those of its updates included.

    They follow from the network, its optimizer and the training images, and so are the same
    whichever processes took the steps, and after which interruptions. None where ``image_flop``
    fails, as for a network that only takes batches of one size.
    """
    shape = (3, images.height, images.width)
    parts = Counter(trainable_now(transfer, e, settings.epochs) for e in range(state.epoch))
    steps = step_count(len(images), settings.batch_size, settings.shards)
    with suppress(Exception):  # of a user's own network: no reason to lose what has been trained
        passes = sum(length * _part_flop(state.net, part, shape) for part, length in parts.items())
        return len(images) * passes + state.epoch * steps * update_flop(state.optimizer)
    return None


def features_flop(net: nn.Module, images: ImageSet, views: int) -> int | None:
    """Operations of forward passes of all images, each in this many views; None as above."""
    with suppress(Exception):
        return views * len(images) * forward_flop(net, (3, images.height, images.width))
    return None


def image_flop(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of training on one image: of its forward pass and its backward pass.

    net: returns logits. shape: ``(3, h, w)``. A multiply-add is two operations. Convolutions,
    products of matrices and attention are counted, but no sums, activations, pooling and
    normalisation. The backward pass is that of the trainable parameters.
    """
    return _counted(net, shape, _backward)


def forward_flop(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of a forward pass of one image, counted as in ``image_flop``."""
    return _counted(net, shape, lambda logits: None)


def update_flop(optimizer: Optimizer) -> int:
    """Operations of one update of the weights: the products of matrices, which only Muon has."""
    if not isinstance(optimizer, Muon):
        return 0
    with _Operations() as counted:
        for bank in optimizer.banks():
            orthogonal(torch.zeros(bank.shape).flatten(1))
    return int(counted.total)


def _of_conv_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor, *how: Any, **out: Any
) -> int:
    """As many for each of the two gradients as for the forward pass, in groups as well.

    Torch's table counts the gradient of the weights as if every filter saw all channels: of a
    depthwise convolution, hundreds of times too many.
    """
    is_transposed, wanted = how[-4], how[-1]
    places = (inputs if is_transposed else gradient).shape
    one: int = 2 * places[0] * math.prod(places[2:]) * weight.numel()
    return one * int(sum(wanted[:2]))


_COUNTS = {**flop_registry, torch.ops.aten.convolution_backward: _of_conv_backward}


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what the table says of each operation, as torch's FlopCounterMode does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        count = _COUNTS.get(func.overloadpacket)
        if count is not None:
            self.total += int(count(*args, **(kwargs or {}), out_val=found))
        return found


# Torch keeps the method out of its compiler, for which it imports it: 1.4 s.
_Operations.__torch_dispatch__ = inspect.unwrap(  # type: ignore[method-assign]
    _Operations.__torch_dispatch__
)


def _backward(logits: Tensor) -> None:
    logits.sum().backward()  # type: ignore[no-untyped-call]


def _part_flop(net: nn.Module, trainable: str, shape: tuple[int, ...]) -> int:
    own = copy.deepcopy(net)
    freeze(own, trainable)
    return image_flop(own, shape)


def _counted(net: nn.Module, shape: tuple[int, ...], backward: Callable[[Tensor], object]) -> int:
    if sum(p.numel() for p in net.parameters()) > _LARGE:
        # Shapes alone, without memory for another copy of the weights; a network of a user's own
        # may depend on values.
        with suppress(Exception):
            return _on(_META, net, shape, backward)
    return _on(_CPU, net, shape, backward)


def _on(
    device: torch.device,
    net: nn.Module,
    shape: tuple[int, ...],
    backward: Callable[[Tensor], object],
) -> int:
    own = copy.deepcopy(net).to(device).train()
    images = torch.zeros(_IMAGES, *shape, device=device)
    # Attention as plain products: the table does not know the kernel of a CPU.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.random.fork_rng(devices=[]), plain, _Operations() as counted:
        backward(own(images))
    return int(counted.total) // _IMAGES
