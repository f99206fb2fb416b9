"""What a user may pass as a network, in one place, and whether it suits the images."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import ModelError, UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.forward import device_of, evaluating
from glasshouse.models.preprocessing import Preprocessing, scale
from glasshouse.rng import derive
from glasshouse.settings import ModelSettings, Recipe, Settings

Network = (
    nn.Module
    | ModelSettings
    | Classifier
    | Sequence[Settings]
    | Sequence[Mapping[str, Any]]
    | Sequence[nn.Module]
)

_EXPECTED = (
    "expected a network first: model settings such as recipe.model, a torch.nn module, a list of "
    "layers, or a classifier to train further"
)


def network_of(given: Network) -> nn.Module | ModelSettings | Classifier:
    """The network that a user means: a list of layers becomes settings or a Sequential.

    Raises UsageError, with a hint for what is often passed instead, and RecipeError for wrong keys
    or values of layers.
    """
    if isinstance(given, nn.Module | ModelSettings | Classifier):
        return given
    if not isinstance(given, list | tuple):
        raise UsageError(f"{_EXPECTED}. {_hint(given)}")
    if all(isinstance(layer, nn.Module) for layer in given) and given:
        return nn.Sequential(*given)
    if all(isinstance(layer, Mapping | Settings) for layer in given) and given:
        layers: Any = tuple(given)
        return ModelSettings(layers=layers)
    kinds = ", ".join(sorted({type(layer).__name__ for layer in given})) or "none"
    raise UsageError(
        "expected a list of layers of one kind, all settings such as {'type': 'flatten'} or all "
        f"torch.nn modules; received {kinds}"
    )


def checked_net(
    net: nn.Module, images: ImageSet, preprocessing: Preprocessing, *, seed: int
) -> nn.Module:
    """The network itself, or a copy whose lazy layers have the sizes that these images need.

    seed: of the initial weights of lazy layers. Raises ModelError unless the network returns one
    logit per class.
    """
    # A copy, since also a network that fails must be left as it was.
    own = copy.deepcopy(net)
    first = np.ascontiguousarray(images.pixels[:2])
    with evaluating(own), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        inputs = scale(torch.from_numpy(first).to(device_of(own)), preprocessing)
        try:
            logits = own(inputs)
        # A network of the user's own may raise anything.
        except Exception as error:
            raise ModelError(_failure(own, inputs, error)) from error
    _require_logits(logits, len(first), len(images.class_names))
    return own if any(is_lazy(p) for p in net.parameters()) else net


def _require_logits(logits: object, count: int, class_count: int) -> None:
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else None
    if shape == (count, class_count):
        return
    if shape is not None and len(shape) == 2:
        raise ModelError(
            f"the network returns {shape[1]} values per image, but there are {class_count} classes:"
            f" its last layer needs {class_count} outputs"
        )
    received = f"a {type(logits).__name__}" if shape is None else f"the shape {shape}"
    raise ModelError(
        f"expected logits ({count}, {class_count}) for {count} images, received {received}: end "
        "the network with a global pool or Flatten, then Linear"
    )


def _failure(net: nn.Module, inputs: Tensor, error: Exception) -> str:
    """Which layer of a Sequential fails at which shape; for other networks, torch's own words."""
    words = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    values = inputs
    for name, layer in net.named_children() if isinstance(net, nn.Sequential) else ():
        try:
            result = layer(values)
        except Exception:
            shape = "x".join(str(side) for side in values.shape[1:])
            return (
                f"layer {name} ({type(layer).__name__}) does not accept its input of {shape} per "
                f"image. {_advice(layer, values) or words}"
            )
        values = result
    size = "x".join(str(side) for side in inputs.shape[1:])
    return f"the network does not accept images of {size} ({words})"


def _advice(layer: nn.Module, values: Tensor) -> str:
    if isinstance(layer, nn.Linear) and values.ndim > 2:
        return "Put nn.Flatten() before it."
    if isinstance(layer, nn.Linear):
        size = values.shape[1]
        return f"Its in_features is {layer.in_features}, expected {size}; or use nn.LazyLinear."
    if isinstance(layer, nn.Conv2d) and values.ndim == 4 and values.shape[1] != layer.in_channels:
        return f"Its in_channels is {layer.in_channels}, expected {values.shape[1]}."
    if values.ndim == 4:
        return "Use padding, fewer pools or strides, or larger images."
    return ""


def _hint(given: object) -> str:
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"{given.__name__} is a class: pass {given.__name__}()."
    if isinstance(given, Recipe):
        return "Of a recipe, pass recipe.model, and recipe.train as the settings."
    if isinstance(given, str):
        return f"For a preset, pass ModelSettings(preset={given!r})."
    if isinstance(given, Splits | ImageSet):
        return "The images come second: train_classifier(network, splits)."
    return f"Received a {type(given).__name__}."
