"""The views of an image whose mean logits are its answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor
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
        return (1 + self.mirror) * (3 if self.shifts else 1)

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

    def _others(self, inputs: Tensor) -> Iterator[Tensor]:
        unmoved = [inputs, *([inputs.flip(-1)] if self.mirror else [])]
        yield from unmoved[1:]
        for view in unmoved if self.shifts else ():
            padded = functional.pad(view, (1, 1, 1, 1), mode="reflect")
            yield padded[..., 2:, 2:]
            yield padded[..., :-2, :-2]


ALONE = Views()
