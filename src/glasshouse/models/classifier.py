"""The noun of this layer: a net with all that is needed to use it on a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes the net's input.

    mean and std are a value a channel in units of 0..1: rescaling is mean 0 and std 1.
    """

    height: int
    width: int
    resize: Literal["crop", "letterbox", "stretch"] = "crop"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Classifier:
    """What training returns, and the only thing that the layers above take.

    The net maps float ``(n, 3, h, w)`` to logits ``(n, k)``; probabilities are
    ``softmax(logits / temperature)``. architecture is what the net can be built from again, as
    JSON values; None for a net that only its owner can build.
    """

    net: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    temperature: float = 1.0
    architecture: Mapping[str, Any] | None = None


def scale(pictures: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 or float pictures in 0..255 ``(n, 3, h, w)`` to the net's input, float32."""
    shape = (1, 3, 1, 1)
    mean = torch.tensor(preprocessing.mean, device=pictures.device).view(shape) * 255
    std = torch.tensor(preprocessing.std, device=pictures.device).view(shape) * 255
    return (pictures.float() - mean) / std
