"""The backbone and the head of a pretrained network, and networks that resize their input."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from glasshouse.errors import ModelError
from glasshouse.models.architecture import build_architecture
from glasshouse.models.freezing import head_of
from glasshouse.models.preprocessing import LONGEST_SIDE
from glasshouse.models.pretrained import build_pretrained
from glasshouse.models.stem import refine_stem
from glasshouse.rng import derive


class ResizedInput(nn.Module):
    """A network that resizes its input, by bicubic interpolation.

    Small images stay small on disk, in memory and during augmentation.
    """

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        self.body = body
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, h, w)`` to the output of the body for ``(n, 3, size, size)``."""
        size = (self.size, self.size)
        larger = interpolate(images, size=size, mode="bicubic", align_corners=False)
        answer: Tensor = self.body(larger)
        return answer

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """The modules that return the logits, for ``head_of``."""
        return tuple(self.body.get_submodule(name) for name in head_of(self.body))


class Head(nn.Sequential):
    """New last layers; ``head_of`` takes modules with is_head as the whole head."""

    is_head = True


@dataclass(frozen=True)
class HeadLocation:
    """Where features become logits: the name of a module, and the number of its input features.

    is_pooled: the module receives flat features; otherwise maps, which a new head must pool.
    """

    at: str
    width: int
    is_pooled: bool


def locate_head(net: nn.Module) -> HeadLocation:
    """Find the place of the head; raises ModelError for a network with several heads."""
    names = head_of(net)
    module = net.get_submodule(names[0])
    if len(names) == 1 and isinstance(module, Head):
        first = next(layer for layer in module if isinstance(layer, nn.Linear))
        return HeadLocation(
            names[0], first.in_features, not isinstance(module[0], nn.AdaptiveAvgPool2d)
        )
    if len(names) == 1 and isinstance(module, nn.Linear):
        return HeadLocation(names[0], module.in_features, True)
    if len(names) == 1 and isinstance(module, nn.Conv2d):
        # SqueezeNet: the activation and the pooling after such a convolution are part of the head.
        depth = 2 if names[0].startswith("body.") else 1
        return HeadLocation(".".join(names[0].split(".")[:depth]), module.in_channels, False)
    raise ModelError(
        "expected a network with one dense layer or one convolution as its head, received "
        f"{', '.join(names)} ({type(module).__name__}); choose another network, or train this one "
        "with transfer.way = 'tune' and no hidden layer"
    )


def backbone_of(net: nn.Module) -> nn.Module:
    """A copy of the network without its head: images to features ``(n, width)``."""
    spot = locate_head(net)
    body = copy.deepcopy(net)
    body.set_submodule(spot.at, nn.Identity() if spot.is_pooled else nn.Sequential(*_pooling()))
    return body


def replace_head(
    net: nn.Module, class_count: int, *, hidden: int | None = None, dropout: float = 0.0
) -> dict[str, Any]:
    """Replace the head by new, untrained layers, in place.

    Returns the "head" of the architecture that ``rebuild_net`` takes.
    """
    spot = locate_head(net)
    shape = {**asdict(spot), "hidden": hidden, "dropout": dropout, "class_count": class_count}
    _place_head(net, shape)
    return shape


def head_layers(
    width: int, class_count: int, *, hidden: int | None, dropout: float
) -> list[nn.Module]:
    """Layers from features ``(n, width)`` to logits, with optional dropout and hidden layer."""
    rest = [nn.Dropout(dropout)] if dropout else []
    if hidden is None:
        return [*rest, nn.Linear(width, class_count)]
    return [nn.Linear(width, hidden), nn.ReLU(), *rest, nn.Linear(hidden, class_count)]


def initialize_head(net: nn.Module, seed: int) -> None:
    """Glorot uniform kernels and zero biases in the head; equal seeds give equal weights."""
    random = torch.Generator().manual_seed(derive(seed, "head"))
    for name in head_of(net):
        for layer in net.get_submodule(name).modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight, generator=random)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def rebuild_net(architecture: Mapping[str, Any]) -> nn.Module:
    """The untrained network of an architecture, with its changes; raises ModelError.

    A "pretrained" entry names a network of a library, otherwise "layers" lists its layers, whose
    weights are left unset.
    """
    if "pretrained" in architecture:
        net = build_pretrained(architecture)
    else:
        net = build_architecture(architecture, unset=True)
    try:
        if architecture.get("stem") == "fine":
            refine_stem(net)
        if architecture.get("input_size") is not None:
            net = ResizedInput(net, _size_of(architecture["input_size"]))
        if architecture.get("head") is not None:
            _place_head(net, architecture["head"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the architecture does not describe a network: {error}") from error
    return net


def net_without_memory(architecture: Mapping[str, Any]) -> nn.Module | None:
    """The network of an architecture on torch's meta device, where weights take no memory.

    None where its constructor needs values to compute with, and for one that is described by its
    layers, whose weights take no memory as it is.
    """
    if "pretrained" not in architecture:
        return None
    try:
        with torch.device("meta"):
            return rebuild_net(architecture)
    except (ModelError, NotImplementedError):
        return None


def _place_head(net: nn.Module, shape: Mapping[str, Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        layers = head_layers(
            shape["width"], shape["class_count"], hidden=shape["hidden"], dropout=shape["dropout"]
        )
    before = [] if shape["is_pooled"] else _pooling()
    net.set_submodule(shape["at"], Head(*before, *layers))


def _size_of(value: Any) -> int:
    if not 0 < int(value) <= LONGEST_SIDE:
        raise ValueError(f"input_size: expected 1 to {LONGEST_SIDE} pixels, received {value}")
    return int(value)


def _pooling() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
