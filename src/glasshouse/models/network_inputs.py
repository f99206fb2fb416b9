"""What a user may pass as a network, in one place, and whether it suits the images."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import UsageError, type_words
from glasshouse.models.classifier import Classifier
from glasshouse.models.logit_net import as_logit_net
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.trial import give_sizes
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
    """The network as one that returns logits; where it has lazy layers, a copy with their sizes.

    seed: of the initial weights of lazy layers. Raises ModelError for what `as_logit_net` refuses.
    """
    own = net
    if any(is_lazy(p) for p in net.parameters()):
        # A copy, since also a network that fails must be left as it was.
        own = copy.deepcopy(net)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "weights"))
            give_sizes(own, preprocessing)
    return as_logit_net(
        own, preprocessing, images.class_names, is_multi_label=images.is_multi_label
    )


def _hint(given: object) -> str:
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"{given.__name__} is a class: pass {given.__name__}()."
    if isinstance(given, Recipe):
        return "Of a recipe, pass recipe.model, and recipe.train as the settings."
    if isinstance(given, str):
        return f"For a preset, pass ModelSettings(preset={given!r})."
    if isinstance(given, Splits | ImageSet):
        return "The images come second: train_classifier(network, splits)."
    return f"Received {type_words(given)}."
