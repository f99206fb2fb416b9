"""Maps at another size: the one place where they are enlarged."""

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from glasshouse.explanation.nouns import Explanation, Floats


def enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps ``(n, h, w)`` at another size, bilinear with half-pixel centres."""
    return functional.interpolate(
        maps[:, None], (height, width), mode="bilinear", align_corners=False
    )[:, 0]


def shown(explanation: Explanation, size: tuple[int, int] | None = None) -> Floats:
    """The maps as they are drawn ``(n, height, width)``, at the size of the images or a given one.

    A class activation map is enlarged bilinearly, and only the part that speaks for the class is
    kept. Contrasts and maps of the image's own size stay signed; the latter keep their pixels.
    """
    height, width = size or explanation.images.shape[2:]
    if not explanation.is_cam:
        return _repeated(explanation.maps, height, width)
    maps = torch.from_numpy(np.array(explanation.maps))
    if explanation.against is None:
        maps = maps.clamp(min=0)
    enlarged: Floats = enlarge(maps, height, width).numpy()
    return enlarged


def _repeated(maps: Floats, height: int, width: int) -> Floats:
    if maps.shape[1:] == (height, width):
        return maps
    rows = np.arange(height) * maps.shape[1] // height
    columns = np.arange(width) * maps.shape[2] // width
    return maps[:, rows[:, None], columns]
