"""Layers of torch.nn to settings and back, so that a plain Sequential can be saved as data."""

import inspect
import json
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from glasshouse.errors import did_you_mean
from glasshouse.settings import TorchLayer


class Unfit(Exception):
    """A layer that cannot be built; its place is added by the stack that holds it."""


def describe_sequential(net: nn.Module) -> tuple[TorchLayer, ...] | None:
    """The settings of a ``torch.nn.Sequential`` of torch.nn layers, nested ones too.

    None where the settings would not give a net with the same layers, keys and shapes: layers of
    one's own, shared weights, hooks that add parameters, arguments that are not plain values.
    """
    if type(net) is not nn.Sequential:
        return None
    layers = _describe_children(net)
    if layers is None:
        return None
    try:
        # Building draws first weights, for which the caller's random numbers are too good.
        with torch.random.fork_rng(devices=[]):
            again = nn.Sequential(
                OrderedDict((str(layer.label), make_torch(layer)) for layer in layers)
            )
    except Unfit:
        return None
    return layers if _are_alike(net, again) else None


def make_torch(layer: TorchLayer) -> nn.Module:
    """One module of torch.nn from its class name and arguments; lists stand for tuples."""
    kind = getattr(nn, layer.name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise Unfit(f"torch.nn has no '{layer.name}'. {_nearest(layer.name)}")
    if kind is nn.Sequential:
        return nn.Sequential(OrderedDict(_labelled(layer.layers)))
    try:
        return kind(**{name: _tuples(value) for name, value in layer.arguments.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"torch.nn.{layer.name} refuses its arguments: {error}") from error


def _labelled(layers: tuple[TorchLayer, ...]) -> list[tuple[str, nn.Module]]:
    return [(layer.label or str(i), make_torch(layer)) for i, layer in enumerate(layers)]


def _describe_children(net: nn.Sequential) -> tuple[TorchLayer, ...] | None:
    layers = []
    # Not named_children(), which leaves out a module that stands in two places.
    for label, module in net._modules.items():
        layer = None if module is None else _describe_one(label, module)
        if layer is None:
            return None
        layers.append(layer)
    return tuple(layers) or None


def _describe_one(label: str, module: nn.Module) -> TorchLayer | None:
    name = type(module).__name__
    if getattr(nn, name, None) is not type(module):
        return None
    if isinstance(module, nn.Sequential):
        inner = _describe_children(module)
        return None if inner is None else TorchLayer(name=name, label=label, layers=inner)
    arguments = _arguments(module)
    return None if arguments is None else TorchLayer(name=name, label=label, arguments=arguments)


def _arguments(module: nn.Module) -> dict[str, Any] | None:
    """Constructor arguments that differ from their defaults, read from the attributes."""
    arguments = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if name in ("device", "dtype") or not hasattr(module, name):
            continue
        value = getattr(module, name)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        if value != parameter.default:
            arguments[name] = value
    try:
        plain: dict[str, Any] = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError):
        return None
    return plain


def _are_alike(net: nn.Module, again: nn.Module) -> bool:
    # The printed form shows what is not in the state, such as strides and slopes.
    shapes = {name: (v.shape, v.dtype) for name, v in net.state_dict().items()}
    shapes_again = {name: (v.shape, v.dtype) for name, v in again.state_dict().items()}
    same_count = len(list(net.parameters())) == len(list(again.parameters()))
    return shapes == shapes_again and same_count and repr(net) == repr(again)


def _nearest(name: str) -> str:
    known = [key for key, kind in vars(nn).items() if isinstance(kind, type)]
    hint = did_you_mean(name, known)
    return hint if hint.startswith("Did") else "Its layers are listed in the docs of torch.nn."


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
