"""Tensors that refuse what MPS, the GPU of a Mac, refuses; they compute on the CPU."""

from typing import Any

from torch import Tensor, nn


class OnMps(Tensor):
    """A tensor whose values have to be brought to the CPU before they are read or made float64."""

    def double(self, *_: object, **__: object) -> Tensor:
        """Raise what torch raises, which has no float64 on MPS."""
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def numpy(self, **_: object) -> Any:
        """Raise what torch raises."""
        raise TypeError("can't convert mps:0 device type tensor to numpy")

    def cpu(self, *_: object, **__: object) -> Tensor:
        """The same values, on the CPU."""
        return self.as_subclass(Tensor)


class AnsweringOnMps(nn.Module):
    """A network whose answers are on MPS."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """The logits of another network."""
        answer: Tensor = self.net(images)
        return answer.as_subclass(OnMps)
