"""A net of torchvision or timm, with its weights and the preprocessing they expect."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models import pretrained
from glasshouse.models.classifier import Classifier
from glasshouse.models.weights import load_weights, read_weights


@dataclass(frozen=True)
class Created:
    """A classifier from the zoo, and plain sentences on how its weights came about."""

    classifier: Classifier
    notes: tuple[str, ...]


def create(
    name: str,
    class_names: tuple[str, ...] | None = None,
    *,
    weights: Path | Literal["usual", "none"] = "usual",
    arguments: Mapping[str, Any] | None = None,
    offline: bool = False,
    seed: int = 0,
) -> Created:
    """The net of this name, in evaluation mode on the CPU, ready for its own picture size.

    class_names: None keeps the classes of the weights; others get a new head where their number
    differs. weights: the published ones, none, or a file. arguments: for the constructor; the name
    may carry some too, as in ``mobilenetv2_100:pad_type=same``. Raises ModelError.
    """
    name, arguments = split_name(name, arguments or {})
    class_count = None if class_names is None else len(class_names)
    net = pretrained.build_net(name, class_count, arguments, seed=seed)
    notes = () if weights == "none" else _fill(net, name, arguments, _file(name, weights, offline))
    count = class_count or _count_classes(net, name, arguments)
    classifier = Classifier(
        net.eval(),
        pretrained.preprocessing_of(name),
        class_names or pretrained.usual_class_names(name, count),
        architecture=pretrained.architecture_of_pretrained(name, count, arguments),
    )
    return Created(classifier, notes)


def split_name(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """``NAME:key=value,...`` to the name and all arguments; raises ModelError."""
    bare, colon, text = name.partition(":")
    found = dict(arguments)
    for part in text.split(",") if colon else ():
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise ModelError(f"'{name}': expected NAME:key=value, got '{part}' behind the colon")
        found[key] = _value(value)
    return bare, found


def _fill(net: nn.Module, name: str, arguments: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    weights, notes = read_weights(file)
    second = [key for key in weights if key.startswith(pretrained.SECOND_HEADS)]
    if second and not any(key.startswith(pretrained.SECOND_HEADS) for key in net.state_dict()):
        weights = {key: value for key, value in weights.items() if key not in second}
        notes = (*notes, "the second heads that only training uses were left out")
    head = pretrained.head_keys(name, arguments)
    return *notes, *load_weights(net, weights, file, replaceable=head)


def _file(name: str, weights: Path | str, offline: bool) -> Path:
    if isinstance(weights, Path):
        return weights
    return pretrained.usual_weights(name, offline=offline)


def _count_classes(net: nn.Module, name: str, arguments: Mapping[str, Any]) -> int:
    state = net.state_dict()
    return max((int(state[k].shape[0]) for k in pretrained.head_keys(name, arguments)), default=0)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
