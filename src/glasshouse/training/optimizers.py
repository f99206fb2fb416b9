"""Optimizers by name."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from glasshouse.settings import TrainSettings
from glasshouse.training.muon import Muon
from glasshouse.training.uncompiled import uncompiled

# Above the smallest normal number of float32, 1.2e-38, by more than 0.9 ** DROP_EVERY.
_VANISHING, DROP_EVERY = 1e-36, 32


def build_optimizer(
    net: nn.Module, settings: TrainSettings, factors: Mapping[str, float] | None = None
) -> Optimizer:
    """The optimizer of a network's trainable parameters.

    factors: multiply the learning rate, by name of the parameter; parameters without a factor are
    not trained. Weight decay acts on kernels only: shrinking biases and BatchNorm scales restricts
    what the network can express without making it smoother.
    """
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    factors = dict.fromkeys(named, 1.0) if factors is None else factors
    groups = []
    for factor in sorted({factors[name] for name in named if name in factors}, reverse=True):
        trainable = [p for name, p in named.items() if factors.get(name) == factor]
        kernels = [p for p in trainable if p.ndim > 1]
        biases = [p for p in trainable if p.ndim <= 1]
        if settings.weight_decay == 0 and settings.bias_lr_factor == 1:
            # One group where all are treated alike: each costs a pass of its own at every step.
            kernels, biases = trainable, []
        for decay, chosen in ((settings.weight_decay, kernels), (0.0, biases)):
            rate = factor if chosen is kernels else factor * settings.bias_lr_factor
            groups.append({"params": chosen, "weight_decay": decay, "lr_factor": rate})
    return _OPTIMIZERS[settings.optimizer]([g for g in groups if g["params"]], settings)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group, multiplied by the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def leaves_gradients(optimizer: Optimizer) -> bool:
    """Whether a step surely changes no gradient in place: true of our own optimizers."""
    return type(optimizer) in (_Adam, _AdamW, _SGD, Muon)


@torch.no_grad()
def take_step(optimizer: Optimizer) -> None:
    """``optimizer.step()``, faster for a fused Adam on a CPU."""
    # Around its one operation, Adam.step does what takes a thirtieth of a small network's step.
    has_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    is_adam = type(optimizer) in (Adam, AdamW, _Adam, _AdamW) and not has_hooks
    if is_adam and all(_is_plain(group, optimizer) for group in optimizer.param_groups):
        for group in optimizer.param_groups:
            _take_fused_step(group, optimizer)
    else:
        optimizer.step()


@torch.no_grad()
def drop_vanishing(optimizer: Optimizer) -> None:
    """Set moments on a CPU that are almost denormal to zero; called every ``DROP_EVERY`` steps.

    The mean of a gradient that stays zero, as that of a dead unit, shrinks with every step until it
    is denormal. Rounding then keeps it there permanently, and the processor becomes several times
    slower. No weight can tell the difference.
    """
    for values in optimizer.state.values():
        for moment in values.values():
            if isinstance(moment, Tensor) and moment.is_cpu and moment.ndim:
                moment.copy_(torch.hardshrink(moment, _VANISHING))


def _is_plain(group: dict[str, Any], optimizer: Optimizer) -> bool:
    """Whether a group of Adam's needs its one operation only: all gradients and moments exist."""
    return (
        group["fused"] is True
        and not (group["amsgrad"] or group["maximize"] or isinstance(group["lr"], Tensor))
        and all(p.is_cpu and p.grad is not None and p in optimizer.state for p in group["params"])
    )


def _take_fused_step(group: dict[str, Any], optimizer: Optimizer) -> None:
    parameters = group["params"]
    states = [optimizer.state[each] for each in parameters]
    steps = [each["step"] for each in states]
    torch._foreach_add_(steps, 1)
    operation = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    operation(
        parameters,
        [each.grad for each in parameters],
        [each["exp_avg"] for each in states],
        [each["exp_avg_sq"] for each in states],
        [],
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def clear_gradients(optimizer: Optimizer) -> None:
    """Forget the gradients of all parameters."""
    # Not Optimizer.zero_grad, which takes four times as long: a percent of a small network's step.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def clip_gradients(net: nn.Module, optimizer: Optimizer, largest_norm: float) -> None:
    """Scale all gradients down together when their joint norm is larger than this."""
    # An optimizer of the user's own may train the head alone: the gradients of other weights are
    # never cleared, and would make the norm grow with every step.
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    chosen = [p for p in net.parameters() if id(p) in trained]
    torch.nn.utils.clip_grad_norm_(chosen, largest_norm)


_Adam = uncompiled(Adam)
_AdamW = uncompiled(AdamW)
_SGD = uncompiled(SGD)


def _sgd(groups: list[dict[str, Any]], settings: TrainSettings) -> Optimizer:
    nesterov = settings.momentum > 0
    return _SGD(
        groups, lr=settings.peak_lr, momentum=settings.momentum, nesterov=nesterov, fused=True
    )


def _muon(groups: list[dict[str, Any]], settings: TrainSettings) -> Optimizer:
    """Banks of filters turn; all else is trained by SGD."""
    parts = []
    for group in groups:
        banks = [p for p in group["params"] if _is_bank(p)]
        others = [p for p in group["params"] if not _is_bank(p)]
        factor = group["lr_factor"] * settings.filter_lr_factor
        parts.append({**group, "params": others, "turns": False})
        parts.append({**group, "params": banks, "turns": True, "lr_factor": factor})
    return Muon(
        [part for part in parts if part["params"]],
        lr=settings.peak_lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        fused=True,
    )


def _is_bank(p: Tensor) -> bool:
    """Filters that can turn: of several channels each, and not all zero, which have no norm."""
    return p.ndim > 3 and p.shape[1] > 1 and bool(p.any())


_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], TrainSettings], Optimizer]] = {
    # The epsilon of Keras; PyTorch's 1e-8 makes Adam's first steps on dead units larger.
    "adam": lambda groups, settings: _Adam(groups, lr=settings.peak_lr, eps=1e-7, fused=True),
    "adamw": lambda groups, settings: _AdamW(groups, lr=settings.peak_lr, eps=1e-7, fused=True),
    "sgd": _sgd,
    "muon": _muon,
}
