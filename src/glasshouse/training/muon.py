"""Muon (Jordan 2024): filters are turned by the same angle in all directions at every step."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from glasshouse.training.precision import computes_in_bf16
from glasshouse.training.uncompiled import uncompiled

# Jordan's polynomial, which raises small singular values fast. After these rounds, those above a
# fifth of the largest are between 0.5 and 1.3, which is alike enough to train by.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 3


class Muon(uncompiled(SGD)):  # type: ignore[misc]
    """SGD in which the filters of convolutions are turned instead of moved.

    Groups with ``turns`` set hold banks of filters ``(filters, channels, h, w)``. A step takes the
    momentum as a matrix with a row per filter, makes its singular values equal, and moves the bank
    by ``lr`` times its own norm in that direction; then the bank gets its norm back. That norm does
    not matter before BatchNorm, and elsewhere it stays what it was at first. The other groups are
    trained as by SGD. Weight decay does not act on filters, whose norm stays.
    """

    def banks(self) -> Iterator[Tensor]:
        """The banks of filters that are turned."""
        for group in self.param_groups:
            if group["turns"]:
                yield from group["params"]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change all parameters that have a gradient; those of banks are used up."""
        for group in self.param_groups:
            for bank in group["params"] if group["turns"] else ():
                if bank.grad is not None:
                    self._turn(bank, bank.grad, group)
                    bank.grad = None  # SGD leaves out what has none
        super().step(closure)

    def _turn(self, bank: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[bank]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(bank)
        average = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(average, alpha=group["momentum"])  # Nesterov
        direction = orthogonal(ahead.flatten(1))
        norm = bank.norm()
        share = group["lr"] * norm / min(direction.shape) ** 0.5
        bank.sub_(direction.view(bank.shape).to(bank.dtype) * share)
        bank.mul_(norm / bank.norm())


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values made alike, by Newton and Schulz's iteration."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    # A matrix of zeros has no direction, and stays one.
    short = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    # The precision of bf16 is enough; but a processor that only emulates it takes 30 times as long.
    kind = torch.bfloat16 if computes_in_bf16(matrix.device) else torch.float32
    turned = (short.T if is_tall else short).to(kind)
    for _ in range(_ROUNDS):
        square = turned @ turned.T
        turned = _A * turned + (_B * square + _C * square @ square) @ turned
    result: Tensor = turned.T if is_tall else turned
    return result
