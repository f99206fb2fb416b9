"""Whether a map lies over the image as it should: a measurement on a few changed images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glasshouse.models.forward import passes
from glasshouse.rng import derive

# The image is divided into 3x3 regions, of which a map with fewer cells has fewer.
_ACROSS = 3
_CONTRAST = 0.5


class RegionTest:
    """Images of noise, one for each region that was replaced by other noise, and the first as is.

    The images are the same for every network of an input size, so that the result does not depend
    on an image that is explained.
    """

    def __init__(self, inputs: Tensor) -> None:
        """inputs ``(n, channels, h, w)``: of the size, type and device that the network takes."""
        generator = torch.Generator().manual_seed(derive(0, "region test"))
        size = inputs.shape[1:]
        before, after = (torch.randn(size, generator=generator) for _ in range(2))
        rows, columns = (_regions(length) for length in size[1:])
        images = [_CONTRAST * before]
        for region in range(_ACROSS**2):
            row, column = divmod(region, _ACROSS)
            is_inside = (rows == row)[:, None] & (columns == column)
            images.append(torch.where(is_inside, after, images[0]))
        self.images = torch.stack(images).to(inputs)

    def parts(self) -> Iterator[Tensor]:
        """The images in batches of one length, at least two, that take little memory."""
        fitting = passes(self.images)[0].stop
        length = next(length for length in (10, 5, 2) if length <= max(fitting, 2))
        yield from torch.split(self.images, length)

    def changes(self, maps: Tensor, first: Tensor) -> Tensor:
        """How much each region ``(n, 9)`` of maps ``(n, channels, h, w)`` differs from the first.

        first ``(1, channels, h, w)``: the map of the first image. 0 for a region without cells.
        """
        change = (maps - first).float().square().sum(1).sqrt()
        rows, columns = (_regions(length).to(maps.device) for length in maps.shape[2:])
        means = []
        for region in range(_ACROSS**2):
            row, column = divmod(region, _ACROSS)
            cells = change[:, rows == row][:, :, columns == column]
            means.append(cells.mean((1, 2)) if cells.numel() else change.new_zeros(len(change)))
        return torch.stack(means, 1)

    def score(self, changes: Tensor, size: tuple[int, int]) -> float:
        """How clearly the maps of all images change where the image did; size: rows and columns.

        changes ``(10, 9)``: those of all images. 0 unless, for three quarters of the regions (all,
        where there are only four), the change is larger there than in any other region, in relation
        to how much each region changes in all.
        """
        rows, columns = (set(_regions(length).tolist()) for length in size)
        chosen = [row * _ACROSS + column for row in sorted(rows) for column in sorted(columns)]
        table = changes[1:][chosen][:, chosen]
        total = table.sum(0)
        if not bool(torch.isfinite(total).all()) or not bool((total > 0).all()):
            return 0.0
        share = table / total
        places = torch.arange(len(chosen), device=changes.device)
        hits = int((share.argmax(1) == places).sum())
        needed = len(chosen) - (len(chosen) // 4 if len(chosen) > 4 else 0)
        return float(share.diagonal().mean()) if hits >= needed else 0.0


def _regions(length: int) -> Tensor:
    """The region that each of the rows, or columns, belongs to."""
    return ((torch.arange(length) + 0.5) / length * _ACROSS).long()
