"""Networks as people write them: their answers, their precision and their number of channels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.models.preprocessing import Preprocessing

SIZE = Preprocessing(12, 12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
NAMES = ("cat", "dog", "hen")


def images(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, 3, 12, 12), dtype=np.uint8)


def plain_net(outputs: int = 3, channels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs),
        ).eval()  # fmt: skip


class Wrapped(nn.Module):
    """A network whose answer is made of the values of another."""

    def __init__(self, answer: Callable[[Tensor], Any], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = plain_net() if net is None else net
        self.answer = answer

    def forward(self, inputs: Tensor) -> Any:
        return self.answer(self.net(inputs))
