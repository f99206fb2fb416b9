"""The views of an image whose mean logits are its answer, and whose mean map explains it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Views:
    """What is looked at besides the image itself.

    mirror: its mirror image. shifts: the image, and its mirror image where that is looked at, moved
    by a pixel: up and to the left, and down and to the right.
    """

    mirror: bool = False
    shifts: bool = False

    @property
    def count(self) -> int:
        """How many views there are, with the image itself."""
        return len(self._each)

    @property
    def words(self) -> str:
        """What a prediction is the mean of."""
        unmoved = "each image and its mirror image" if self.mirror else "each image"
        moved = f", and {'both' if self.mirror else 'it'} moved by a pixel up left and down right"
        return f"{unmoved}{moved * self.shifts}"

    def mean(self, inputs: Tensor, own: Tensor, net: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean logits ``(n, k)`` of all views of inputs ``(n, 3, h, w)``.

        own: those of the inputs as they are. net: what computes the others.
        """
        total = own
        for view in self._others(inputs):
            total = total + net(view)
        return total / self.count if self.count > 1 else own

    def stacked(self, inputs: Tensor) -> Tensor:
        """All views of inputs ``(n, 3, h, w)`` in a batch ``(count * n, 3, h, w)``, these first."""
        return torch.cat([inputs, *self._others(inputs)]) if self.count > 1 else inputs

    def averaged(self, stacked: Tensor) -> Tensor:
        """The mean ``(n, ...)`` of what was computed of each view ``(count * n, ...)``."""
        return torch.stack(stacked.chunk(self.count)).sum(0) / self.count

    def gradient(self, stacked: Tensor) -> Tensor:
        """The gradient of a mean score at the inputs ``(n, 3, h, w)``, from those at each view."""
        if self.count == 1:
            return stacked
        with torch.enable_grad():
            shape = (len(stacked) // self.count, *stacked.shape[1:])
            inputs = torch.zeros(shape, dtype=stacked.dtype, device=stacked.device)
            total = (self.stacked(inputs.requires_grad_()) * stacked).sum()
            (found,) = torch.autograd.grad(total, inputs)
        return found / self.count

    def mean_map(self, stacked: Tensor, size: tuple[int, ...]) -> Tensor:
        """The mean ``(n, ..., rows, columns)`` of each view's map, moved back to its place.

        size: height and width of the images. Cells of several pixels are only mirrored back: views
        are moved by a pixel both ways, so that their mean lies where the image is.
        """
        if self.count == 1:
            return stacked
        is_by_pixel = tuple(stacked.shape[-2:]) == tuple(size)
        total = torch.zeros_like(stacked[: len(stacked) // self.count])
        for maps, (is_mirrored, by) in zip(stacked.chunk(self.count), self._each, strict=True):
            back = _moved(maps, -by, "replicate") if by and is_by_pixel else maps
            total = total + (back.flip(-1) if is_mirrored else back)
        return total / self.count

    @property
    def _each(self) -> list[tuple[bool, int]]:
        """Whether each view is mirrored, and by how many pixels it is moved down right."""
        sides = [False, True] if self.mirror else [False]
        moves = [-1, 1] if self.shifts else []
        return [(side, 0) for side in sides] + [(side, by) for side in sides for by in moves]

    def _others(self, inputs: Tensor) -> Iterator[Tensor]:
        for is_mirrored, by in self._each[1:]:
            view = inputs.flip(-1) if is_mirrored else inputs
            yield _moved(view, by, "reflect") if by else view


class MeanOfViews(nn.Module):
    """A network whose logits are the mean of those of all views."""

    def __init__(self, net: nn.Module, views: Views) -> None:
        super().__init__()
        self.net = net
        self._views = views

    def forward(self, inputs: Tensor) -> Tensor:
        """The mean logits ``(n, k)`` of inputs ``(n, 3, h, w)``, few of them in a single pass."""
        if self._views.count * inputs.numel() > _AT_ONCE:
            return self._views.mean(inputs, self.net(inputs), self.net)
        return self._views.averaged(self.net(self._views.stacked(inputs)))


ALONE = Views()

# Input values of all views in one pass, those of 128 images of 32x32: a pass of fewer costs more
# per image, and a pass of more only memory.
_AT_ONCE = 128 * 3 * 32 * 32


def _moved(images: Tensor, by: int, mode: str) -> Tensor:
    """Images moved down right by a pixel, or up left for -1; what moves in continues the edge."""
    height, width = images.shape[-2:]
    start = 1 - by
    padded = functional.pad(images, (1, 1, 1, 1), mode=mode)
    return padded[..., start : start + height, start : start + width]
