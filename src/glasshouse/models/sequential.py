"""Layers of torch.nn to settings and back, so that a Sequential can be saved as data."""

import inspect
import json
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from glasshouse.errors import did_you_mean
from glasshouse.settings import TorchLayer


class LayerError(Exception):
    """A layer cannot be built; whoever builds the stack adds its position to the message."""


def describe_sequential(net: nn.Module) -> tuple[TorchLayer, ...] | None:
    """The settings of a ``torch.nn.Sequential`` of torch.nn layers, also of nested ones.

    None if a network built from the settings would differ in layers, keys or shapes: custom layers,
    shared weights, hooks that add parameters, arguments that are not plain values.
    """
    if type(net) is not nn.Sequential:
        return None
    layers = _describe_children(net)
    if layers is None:
        return None
    try:
        # Building draws initial weights, which must not advance the random state of the caller.
        with torch.random.fork_rng(devices=[]):
            again = nn.Sequential(
                OrderedDict((str(layer.label), make_torch(layer)) for layer in layers)
            )
    except LayerError:
        return None
    return layers if _are_alike(net, again) else None


def make_torch(layer: TorchLayer) -> nn.Module:
    """A module of torch.nn from its class name and arguments; lists become tuples."""
    kind = getattr(nn, layer.name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise LayerError(f"torch.nn has no '{layer.name}'. {_nearest(layer.name)}")
    if kind is nn.Sequential:
        return nn.Sequential(OrderedDict(_labelled(layer.layers)))
    try:
        return kind(**{name: _tuples(value) for name, value in layer.arguments.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise LayerError(f"torch.nn.{layer.name} does not accept its arguments: {error}") from error


def _labelled(layers: tuple[TorchLayer, ...]) -> list[tuple[str, nn.Module]]:
    return [(layer.label or str(i), make_torch(layer)) for i, layer in enumerate(layers)]


def _describe_children(net: nn.Sequential) -> tuple[TorchLayer, ...] | None:
    layers = []
    # Not named_children(), which skips a module that occurs a second time.
    for label, module in net.named_modules(remove_duplicate=False):
        if not label or "." in label:
            continue
        layer = _describe_one(label, module)
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
    # The printed form also shows what is not in the state, such as strides and slopes.
    shapes = {name: (v.shape, v.dtype) for name, v in net.state_dict().items()}
    shapes_again = {name: (v.shape, v.dtype) for name, v in again.state_dict().items()}
    same_count = len(list(net.parameters())) == len(list(again.parameters()))
    return shapes == shapes_again and same_count and repr(net) == repr(again)


def _nearest(name: str) -> str:
    known = [key for key, kind in vars(nn).items() if isinstance(kind, type)]
    hint = did_you_mean(name, known)
    return hint if hint.startswith("Did") else "The documentation of torch.nn lists its layers."


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
