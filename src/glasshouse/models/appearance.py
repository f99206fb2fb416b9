"""How images look without any network: contrasts of light and colour, from fine to coarse."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from glasshouse.data.pixel_blocks import gather
from glasshouse.models.forward import passes

# Of 0..1: contrasts below one level of 255 are alike.
_LEVEL = 1 / 255
_COARSEST = 4


def appearance(images: Tensor) -> Tensor:
    """Statistics ``(n, d)`` of images in 0..255 ``(n, 3, h, w)``; d depends on their size.

    Means and contrasts of light and of two opponent colours; then, at each scale, the Haar wavelets
    of neighbouring pixels: logarithms of the root mean square and of the mean of their sizes, and
    the mean of the logarithms. The three tell texture from edges on flat ground.
    """
    red, green, blue = (images.float() / 255).unbind(1)
    planes = torch.stack(
        [(red + green + blue) / 3, (red - blue) / 2, (2 * green - red - blue) / 4], 1
    )
    centre = planes.mean((2, 3), keepdim=True)
    found = [centre.flatten(1), _log(_root_mean_square(planes - centre))]
    sides = images.shape[2:]
    while min(sides) >= _COARSEST:
        above, below = planes[:, :, :-1], planes[:, :, 1:]
        sums, steps = above + below, above - below
        wavelets = (_across(sums), steps[..., :-1] + steps[..., 1:], _across(steps))
        for size in (each.abs() / 2 for each in wavelets):
            found += [
                _log(_root_mean_square(size)),
                _log(size.mean((2, 3))),
                _log(size).mean((2, 3)),
            ]
        planes = avg_pool2d(planes, 2)
        sides = planes.shape[2:]
    return torch.cat(found, 1)


def appearance_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same of uint8 images ``(n, 3, h, w)``, on the CPU and a part of them at a time."""
    with torch.inference_mode():
        parts = [
            appearance(torch.from_numpy(gather(pixels, np.arange(rows.start, rows.stop))))
            for rows in passes(pixels)
        ]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _across(planes: Tensor) -> Tensor:
    return planes[..., :-1] - planes[..., 1:]


def _root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean((2, 3)).sqrt()


def _log(values: Tensor) -> Tensor:
    return (values + _LEVEL).log()
