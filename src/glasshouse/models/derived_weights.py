"""Weights that a file holds as what they are computed from: weight norm and pruning.

torch keeps a weight as direction and length (``weight_g`` and ``weight_v``, or ``original0`` and
``original1``), or as the values before pruning and a mask. The weight is their product.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from glasshouse.wording import first_of

# What is stored instead of NAME, first the factor that has a value per filter or weight.
_PAIRS = (
    (re.compile(r"^(.*)_g$"), r"\1_v"),
    (re.compile(r"^(.*)parametrizations\.([^.]+)\.original0$"), r"\1parametrizations.\2.original1"),
    (re.compile(r"^(.*)_mask$"), r"\1_orig"),
)


def with_derived(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights with those that are stored as two factors multiplied, and notes on them."""
    found = dict(weights)
    made = []
    for key, factor in weights.items():
        for number, (pattern, other) in enumerate(_PAIRS):
            match = pattern.match(key)
            partner = match.expand(other) if match else ""
            if match is None or partner not in weights:
                continue
            name = "".join(match.groups())
            value = weights[partner]
            is_mask = number == len(_PAIRS) - 1
            if name in weights or not _belong_together(factor, value, is_mask=is_mask):
                continue
            found[name] = factor * value if is_mask else factor * _direction(factor, value)
            del found[key], found[partner]
            made.append(name)
    if not made:
        return found, ()
    return found, (f"computed from weight norm or pruning: {first_of(made, 3)}",)


def _belong_together(factor: Tensor, value: Tensor, *, is_mask: bool) -> bool:
    if is_mask:
        return factor.shape == value.shape
    is_floating = factor.is_floating_point() and value.is_floating_point()
    sides = zip(factor.shape, value.shape, strict=False)
    return is_floating and factor.ndim == value.ndim and all(g in (1, v) for g, v in sides)


def _direction(length: Tensor, value: Tensor) -> Tensor:
    """The value divided by its norm over all axes along which there is one length."""
    axes = [axis for axis, side in enumerate(length.shape) if side == 1]
    return value / torch.linalg.vector_norm(value, dim=axes, keepdim=True) if axes else value.sign()
