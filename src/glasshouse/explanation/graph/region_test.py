"""Whether a map lies over the image as it should: a measurement on a few changed images."""

import torch
from torch import Tensor

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

    def score(self, maps: Tensor) -> float:
        """How clearly maps ``(10, channels, h, w)`` of the images change where the image did.

        0 unless, for three quarters of the regions (all, where there are only four), the change is
        larger there than in any other region, in relation to how much each region changes in all.
        """
        change = (maps[1:] - maps[:1]).float().square().sum(1).sqrt()
        rows, columns = (_regions(length).to(maps.device) for length in maps.shape[2:])
        chosen, means = [], []
        for region in range(_ACROSS**2):
            row, column = divmod(region, _ACROSS)
            cells = change[:, rows == row][:, :, columns == column]
            if cells.numel():
                chosen.append(region)
                means.append(cells.mean((1, 2)))
        table = torch.stack(means, 1)[chosen]
        total = table.sum(0)
        if not bool(torch.isfinite(total).all()) or not bool((total > 0).all()):
            return 0.0
        share = table / total
        places = torch.arange(len(chosen), device=maps.device)
        hits = int((share.argmax(1) == places).sum())
        needed = len(chosen) - (len(chosen) // 4 if len(chosen) > 4 else 0)
        return float(share.diagonal().mean()) if hits >= needed else 0.0


def _regions(length: int) -> Tensor:
    """The region that each of the rows, or columns, belongs to."""
    return ((torch.arange(length) + 0.5) / length * _ACROSS).long()
