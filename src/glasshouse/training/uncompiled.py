"""Optimizers of torch without its compiler, which they import at their first call: 1.5 s."""

import inspect
from typing import TypeVar

import torch
from torch.optim import Optimizer

_Kind = TypeVar("_Kind", bound=Optimizer)
# Methods that torch keeps out of its compiler, for which they import it.
_WITHOUT_COMPILER = ("add_param_group", "state_dict", "load_state_dict")


def uncompiled(kind: type[_Kind]) -> type[_Kind]:
    """The same optimizer, whose methods do not import torch's compiler."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WITHOUT_COMPILER}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})
