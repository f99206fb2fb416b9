"""Nets of the zoo adapted to other images: a head of other layers, an input of another size."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from glasshouse.errors import ModelError
from glasshouse.models.freezing import head_of
from glasshouse.models.pretrained import build_pretrained
from glasshouse.models.stem import refine_stem
from glasshouse.rng import derive


class Enlarged(nn.Module):
    """A net that sees its images at another size, by bicubic interpolation.

    Small images stay small on disk, in memory and under augmentation.
    """

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        self.body = body
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, h, w)`` to what the body gives for ``(n, 3, size, size)``."""
        size = (self.size, self.size)
        larger = interpolate(images, size=size, mode="bicubic", align_corners=False)
        answer: Tensor = self.body(larger)
        return answer

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """The modules that give the logits, which ``head_of`` asks for."""
        return tuple(self.body.get_submodule(name) for name in head_of(self.body))


class Head(nn.Sequential):
    """New last layers; the mark tells ``head_of`` that they belong together."""

    is_head = True


@dataclass(frozen=True)
class HeadSpot:
    """Where a net's features become logits: a module's name, and the numbers that it is given.

    is_pooled: the module gets flat features; else it gets maps, and a new head must pool them.
    """

    at: str
    width: int
    is_pooled: bool


def head_spot(net: nn.Module) -> HeadSpot:
    """Where new last layers go; raises ModelError for a net with several heads."""
    names = head_of(net)
    module = net.get_submodule(names[0])
    if len(names) == 1 and isinstance(module, Head):
        first = next(layer for layer in module if isinstance(layer, nn.Linear))
        return HeadSpot(
            names[0], first.in_features, not isinstance(module[0], nn.AdaptiveAvgPool2d)
        )
    if len(names) == 1 and isinstance(module, nn.Linear):
        return HeadSpot(names[0], module.in_features, True)
    if len(names) == 1 and isinstance(module, nn.Conv2d):
        # The activation and the pooling behind such a head are part of it.
        depth = 2 if names[0].startswith("body.") else 1
        return HeadSpot(".".join(names[0].split(".")[:depth]), module.in_channels, False)
    raise ModelError(
        "expected a net with one dense layer or one convolution as its head, got "
        f"{', '.join(names)} ({type(module).__name__}); choose another net, or train this one with "
        "transfer.way = 'tune' and no hidden layer"
    )


def body_of(net: nn.Module) -> nn.Module:
    """A copy of the net without its head: images to features ``(n, width)``."""
    spot = head_spot(net)
    body = copy.deepcopy(net)
    body.set_submodule(spot.at, nn.Identity() if spot.is_pooled else nn.Sequential(*_pooling()))
    return body


def replace_head(
    net: nn.Module, class_count: int, *, hidden: int | None = None, dropout: float = 0.0
) -> dict[str, Any]:
    """Give the net new, untrained last layers, changing it; returns what ``rebuild`` needs."""
    spot = head_spot(net)
    shape = {**asdict(spot), "hidden": hidden, "dropout": dropout, "class_count": class_count}
    _place_head(net, shape)
    return shape


def new_layers(
    width: int, class_count: int, *, hidden: int | None, dropout: float
) -> list[nn.Module]:
    """Features ``(n, width)`` to logits: dropout, and a hidden layer with ReLU where asked for."""
    rest = [nn.Dropout(dropout)] if dropout else []
    if hidden is None:
        return [*rest, nn.Linear(width, class_count)]
    return [nn.Linear(width, hidden), nn.ReLU(), *rest, nn.Linear(hidden, class_count)]


def initialize_head(net: nn.Module, seed: int) -> None:
    """Glorot-uniform kernels and zero biases in the net's head; equal seeds give equal weights."""
    random = torch.Generator().manual_seed(derive(seed, "head"))
    for name in head_of(net):
        for layer in net.get_submodule(name).modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight, generator=random)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def rebuild(architecture: Mapping[str, Any]) -> nn.Module:
    """The net of an architecture with a "pretrained" entry, untrained; raises ModelError."""
    net = build_pretrained(architecture)
    try:
        if architecture.get("stem") == "fine":
            refine_stem(net)
        if architecture.get("input_size") is not None:
            net = Enlarged(net, int(architecture["input_size"]))
        if architecture.get("head") is not None:
            _place_head(net, architecture["head"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the architecture does not describe a net: {error}") from error
    return net


def _place_head(net: nn.Module, shape: Mapping[str, Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        layers = new_layers(
            shape["width"], shape["class_count"], hidden=shape["hidden"], dropout=shape["dropout"]
        )
    before = [] if shape["is_pooled"] else _pooling()
    net.set_submodule(shape["at"], Head(*before, *layers))


def _pooling() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
