"""Everything that the next training step depends on, saved and loaded exactly."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from glasshouse.errors import StorageError, naming_full_gpu
from glasshouse.models.devices import compute_exactly
from glasshouse.models.final_softmax import logit_net
from glasshouse.settings import TrainSettings
from glasshouse.storage import (
    read_tensors,
    sha256_of_bytes,
    sha256_of_file,
    tensors_to_bytes,
    write_bytes,
)
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.results import UnreadResults
from glasshouse.wording import percentage

_HASH_LETTERS = 16


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch, counted from 1; seconds: of training, without validation.

    An accuracy is the share of the images with the right label; where images may have several,
    with all labels right at a probability of a half. Losses are in nats.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: float
    images_per_second: float

    def __repr__(self) -> str:
        return (
            f"Epoch({self.epoch}, train loss {self.train_loss:.3f} "
            f"acc {percentage(self.train_accuracy, 2)}, val loss {self.validation_loss:.3f} "
            f"acc {percentage(self.validation_accuracy, 2)})"
        )


@dataclass
class TrainingState:
    """The only thing that training changes.

    averaged: moving averages of the weights, and best: weights of the best epoch so far, where the
    settings ask for them. epoch, step: the next ones, counted from 0. loss_sum, correct, seen,
    seconds: sums over the present epoch, loss_sum and correct without those steps of which the
    results are still ``unread``. history: completed epochs.
    """

    net: nn.Module
    optimizer: Optimizer
    averaged: dict[str, Tensor] | None = None
    best: dict[str, Tensor] | None = None
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    unread: UnreadResults = field(default_factory=UnreadResults)

    def read_results(self) -> None:
        """Add the results of all steps to the sums, which waits for the device.

        Raises DivergedError, naming the images, when a loss was not finite.
        """
        sums, correct = self.unread.read()
        for loss in sums:
            self.loss_sum += loss
        self.correct += correct


def is_best(epoch: Epoch, before: list[Epoch]) -> bool:
    """True when the validation loss is below that of every earlier epoch."""
    return all(epoch.validation_loss < other.validation_loss for other in before)


def has_stalled(history: list[Epoch], patience: int) -> bool:
    """True when none of the last ``patience`` epochs lowered the best validation loss."""
    recent = [is_best(epoch, history[:i]) for i, epoch in enumerate(history)][-patience:]
    return len(history) > patience and not any(recent)


def begin(net: nn.Module, settings: TrainSettings, device: torch.device) -> TrainingState:
    """A new state around a copy of the network; the caller's is left unchanged.

    A softmax at the end of a ``torch.nn.Sequential`` is left off, as the loss takes logits. On
    CUDA, see `compute_exactly`.
    """
    compute_exactly(device)
    with naming_full_gpu():
        own = copy.deepcopy(logit_net(net)).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(own, build_optimizer(own, settings))
    if settings.ema_decay is not None:
        state.averaged = copy_weights(own)
    return state


def copy_weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer by name."""
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


@contextmanager
def using_weights(net: nn.Module, weights: dict[str, Tensor] | None) -> Iterator[None]:
    """A context in which the network has other weights; its own return afterwards."""
    if weights is None:
        yield
        return
    own = copy_weights(net)
    net.load_state_dict(weights)
    try:
        yield
    finally:
        net.load_state_dict(own)


def final_net(state: TrainingState) -> nn.Module:
    """A copy of the network with the final weights: best, else averaged, else last.

    It is on the device of training and in evaluation mode.
    """
    net = copy.deepcopy(state.net)
    weights = state.best or state.averaged
    if weights is not None:
        net.load_state_dict(weights)
    return net.eval()


def save_checkpoint(state: TrainingState, folder: Path) -> Path:
    """Write the state as one file that is whole or absent, and keep the previous one.

    The name contains the position and a hash of the content. Raises StorageError when the disk is
    full and DivergedError when a loss was not finite, which leave older checkpoints intact.
    """
    state.read_results()
    tensors, metadata = packed_state(state)
    data = tensors_to_bytes(tensors, metadata)
    path = folder / f"{state.epoch:05d}-{state.step:07d}-{_hash_of(data)}.safetensors"
    write_bytes(path, data)
    for old in _checkpoints(folder)[:-2]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(state: TrainingState, folder: Path) -> bool:
    """Load the newest intact checkpoint into a new state; False when there is none at all.

    A damaged file is skipped for the one before it. Raises StorageError when all are damaged.
    """
    paths = _checkpoints(folder)
    for path in reversed(paths):
        if sha256_of_file(path)[:_HASH_LETTERS] == path.stem.rpartition("-")[2]:
            unpack_state(state, *read_tensors(path))
            return True
    if paths:
        raise StorageError(
            f"every checkpoint in {folder} is damaged: {', '.join(p.name for p in paths)}. "
            "Train again without --resume, into another folder."
        )
    return False


def packed_state(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All of a state as tensors by name and plain values."""
    tensors = {f"net/{name}": tensor for name, tensor in state.net.state_dict().items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in (state.averaged or {}).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in (state.best or {}).items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in values.items()
                    if isinstance(value, Tensor)}  # fmt: skip
    metadata = {
        "epoch": state.epoch,
        "step": state.step,
        # Hexadecimal keeps every bit of a float.
        "loss_sum": state.loss_sum.hex(),
        "correct": state.correct,
        "seen": state.seen,
        "seconds": state.seconds,
        "history": [asdict(epoch) for epoch in state.history],
    }
    return tensors, metadata


def unpack_state(state: TrainingState, tensors: Mapping[str, Tensor], metadata: Any) -> None:
    """Set a new state to what `packed_state` returned."""
    state.net.load_state_dict(_part(tensors, "net/"))
    state.averaged = _placed_like(state.net, _part(tensors, "averaged/")) or None
    state.best = _placed_like(state.net, _part(tensors, "best/")) or None
    _unpack_optimizer(state.optimizer, _part(tensors, "optimizer/"))
    state.epoch, state.step = metadata["epoch"], metadata["step"]
    state.loss_sum = float.fromhex(metadata["loss_sum"])
    state.correct, state.seen = metadata["correct"], metadata["seen"]
    state.seconds = metadata["seconds"]
    state.history = [Epoch(**epoch) for epoch in metadata["history"]]


def finished_epochs(folder: Path) -> dict[int, Path]:
    """The checkpoints that were written at the end of an epoch, by its number."""
    paths = (path for path in _checkpoints(folder) if path.stem.split("-")[1] == "0000000")
    return {int(path.stem.split("-")[0]): path for path in paths}


def weights_of_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights that a checkpoint's epoch was validated with: averaged ones where available.

    Raises StorageError for a damaged file.
    """
    tensors, _ = read_tensors(path)
    return _part(tensors, "averaged/") or _part(tensors, "net/")


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("[0-9]*.safetensors"))


def _hash_of(data: bytes) -> str:
    return sha256_of_bytes(data)[:_HASH_LETTERS]


def _placed_like(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of loaded tensors on the device and in the layout of the network's own."""
    own = net.state_dict()
    return {name: torch.empty_like(own[name]).copy_(tensor) for name, tensor in tensors.items()}


def _unpack_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        like = parameters[int(index)]
        if tensor.shape == like.shape:
            # Fused optimizers walk through memory, so the layout must be that of the parameter.
            tensor = torch.empty_like(like).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
