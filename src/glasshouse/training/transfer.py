"""Fine-tuning: which layers of a pretrained network are trained when, and how fast."""

import copy
from collections.abc import Iterator

from torch import device as Device, nn

from glasshouse.models.freezing import freeze
from glasshouse.settings import TrainSettings, TransferSettings
from glasshouse.training.fit import train_until_done
from glasshouse.training.loop import Step, TrainingSetup
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.state import Epoch, TrainingState, begin


def trainable_now(transfer: TransferSettings, epoch: int, epochs: int) -> str:
    """The trainable part in an epoch, counted from 0, as ``freeze`` understands it."""
    if transfer.way != "gradual":
        return transfer.trainable if transfer.way == "tune" else "head"
    stage = min(epoch * len(transfer.unfreeze) // epochs, len(transfer.unfreeze) - 1)
    return transfer.unfreeze[stage]


def starting_net(net: nn.Module, transfer: TransferSettings, epochs: int) -> nn.Module:
    """A copy of the network, frozen as in the first epoch."""
    own = copy.deepcopy(net)
    _freeze(own, transfer, trainable_now(transfer, 0, epochs))
    return own


def begin_transfer(
    net: nn.Module, settings: TrainSettings, transfer: TransferSettings, device: Device
) -> TrainingState:
    """A new state around a copy of the network, frozen as in the first epoch.

    With gradual unfreezing the optimizer has all parameters from the start, each with its factor
    of the learning rate, so that a run can be saved and resumed anywhere.
    """
    if transfer.way != "gradual":
        return begin(starting_net(net, transfer, settings.epochs), settings, device)
    own = copy.deepcopy(net)
    state = begin(own, settings, device)
    factors = rate_factors(own, transfer)
    state.optimizer = build_optimizer(state.net, settings, factors)
    _freeze(state.net, transfer, transfer.unfreeze[0])
    return state


def rate_factors(net: nn.Module, transfer: TransferSettings) -> dict[str, float]:
    """The learning-rate factor of each parameter that is ever trained; lower for later stages."""
    factors: dict[str, float] = {}
    own = copy.deepcopy(net)
    for stage, trainable in enumerate(transfer.unfreeze):
        freeze(own, trainable)
        for name, parameter in own.named_parameters():
            if parameter.requires_grad:
                factors.setdefault(name, transfer.rate_factor**stage)
    return factors


def train_transfer(
    state: TrainingState, setup: TrainingSetup, transfer: TransferSettings
) -> Iterator[Step | Epoch]:
    """The training loop, unfreezing further layers between epochs where the settings say so."""
    epochs = setup.settings.epochs
    _freeze(state.net, transfer, trainable_now(transfer, state.epoch, epochs))
    for record in train_until_done(state, setup):
        if isinstance(record, Epoch) and state.epoch < epochs and transfer.way == "gradual":
            _freeze(state.net, transfer, trainable_now(transfer, state.epoch, epochs))
        yield record


def describe_stages(net: nn.Module, transfer: TransferSettings, epochs: int) -> tuple[str, ...]:
    """One line per range of epochs on what is trainable in it."""
    own = copy.deepcopy(net)
    seen: dict[str, list[int]] = {}
    for epoch in range(epochs):
        seen.setdefault(trainable_now(transfer, epoch, epochs), []).append(epoch + 1)
    lines = [(freeze(own, trainable), numbers) for trainable, numbers in seen.items()]
    if len(lines) == 1:
        return (str(lines[0][0]),)
    return tuple(f"epochs {n[0]} to {n[-1]}: {freezing}" for freezing, n in lines)


def _freeze(net: nn.Module, transfer: TransferSettings, trainable: str) -> None:
    freeze(net, trainable, batch_statistics=transfer.batch_statistics)
