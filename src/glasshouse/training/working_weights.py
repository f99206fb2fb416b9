"""Low-precision copies of the weights that stay in place from one training step to the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# What autocast casts to the lower precision, weights included. Exact types: a subclass may do
# something else with its weights.
_CAST = (nn.Conv2d, nn.Linear)
# Modules that use their weights for nothing but their own operation.
_KNOWN = ("torch.nn.modules.", "glasshouse.models.")


@dataclass(frozen=True)
class _Copy:
    """A weight and its copy; places: the modules that have it, with the name that it has there."""

    weight: nn.Parameter
    copy: nn.Parameter
    gradient: Tensor
    places: list[tuple[nn.Module, str]]


class WorkingWeights:
    """Copies of the weights of convolutions and linear layers in the precision of autocast.

    Autocast casts each weight in the forward pass and each gradient in the backward pass, into new
    memory at every step. Copies that stay in place give the same bytes with less memory traffic,
    which is what bounds the step of a small network.
    """

    def __init__(self, net: nn.Module, precision: torch.dtype) -> None:
        self._copies = _copies(net, precision) if _is_known(net) else []

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network computes with the copies of its present weights inside."""
        if not self._copies:
            yield
            return
        with torch.no_grad():
            torch._foreach_copy_([each.copy for each in self._copies], self._weights())
        try:
            for each in self._copies:
                each.copy.requires_grad = each.weight.requires_grad
                for module, name in each.places:
                    module._parameters[name] = each.copy
            yield
        finally:
            for each in self._copies:
                for module, name in each.places:
                    module._parameters[name] = each.weight

    def hand_over_gradients(self) -> None:
        """After the backward pass: the gradients become those of the network's own weights."""
        own, found = list[Tensor](), list[Tensor]()
        for each in self._copies:
            if each.copy.grad is not None:
                own.append(each.gradient)
                found.append(each.copy.grad)
                each.weight.grad, each.copy.grad = each.gradient, None
        if own:
            torch._foreach_copy_(own, found)

    def _weights(self) -> list[Tensor]:
        return [each.weight for each in self._copies]


def _copies(net: nn.Module, precision: torch.dtype) -> list[_Copy]:
    copies: dict[int, _Copy] = {}
    for module in net.modules():
        if type(module) not in _CAST:
            continue
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in copies:
                values = torch.empty_like(weight, dtype=precision, requires_grad=False)
                gradient = torch.empty_like(weight, requires_grad=False)
                copies[id(weight)] = _Copy(weight, nn.Parameter(values), gradient, [])
            copies[id(weight)].places.append((module, name))
    return list(copies.values())


def _is_known(net: nn.Module) -> bool:
    """Whether no module has code of somebody else's, which may want the weights themselves."""
    return all(
        type(module).__module__.startswith(_KNOWN)
        and not (module._forward_pre_hooks or module._forward_hooks)
        for module in net.modules()
    )
