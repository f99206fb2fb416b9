"""Small nets for the tests of this layer."""

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.models.classifier import Classifier, Preprocessing

SIDE = 16
NAMES = ("cat", "dog", "frog", "ship", "truck")


class FunctionalNet(nn.Module):
    """The layers of `module_net` with functional ReLUs, two of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.second = nn.Conv2d(6, 8, 3)
        self.hidden = nn.Linear(8 * 36, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x), inplace=True)
        x = functional.max_pool2d(functional.relu(self.second(x)), 2)
        x = self.hidden(x.flatten(1)).clamp(min=0)
        logits: Tensor = self.head(x)
        return logits


class SkipNet(nn.Module):
    """``relu(x) + x``: a ReLU whose input is also used beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv(x)
        logits: Tensor = self.head((self.relu(hidden) + hidden).mean((2, 3)))
        return logits


def module_net(*, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(inplace), nn.Conv2d(6, 8, 3), nn.ReLU(inplace),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 36, 12), nn.ReLU(inplace), nn.Linear(12, 5),
    )  # fmt: skip


def functional_net() -> FunctionalNet:
    """Has the weights of `module_net`."""
    net, twin = FunctionalNet(), module_net()
    weighted = [module for module in twin if isinstance(module, nn.Conv2d | nn.Linear)]
    parts = (net.first, net.second, net.hidden, net.head)
    for ours, theirs in zip(parts, weighted, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return net


def pooled_net() -> nn.Sequential:
    """Ends with global average pooling and a linear layer."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 7, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5),
    )  # fmt: skip


def skip_net() -> SkipNet:
    torch.manual_seed(2)
    return SkipNet()


def activated_net(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), activation, nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(6 * 144, 5)
    )


def classifier_of(net: nn.Module, *, double: bool = False) -> Classifier:
    return Classifier(net.double() if double else net, Preprocessing(SIDE, SIDE), NAMES)


def some_images(count: int = 3, *, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def relative(ours: object, theirs: object) -> float:
    a, b = (np.asarray(each, dtype=np.float64) for each in (ours, theirs))
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())
