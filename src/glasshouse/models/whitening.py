"""Fit the kernels of a whitening layer to the training images."""

import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import gather
from glasshouse.models.layers import WhiteningLayer
from glasshouse.models.preprocessing import Preprocessing, scale

_IMAGES, _AT_ONCE = 5000, 250
# Directions in which the patches hardly vary would otherwise be amplified to pure noise.
_FLOOR = 5e-4


def fit_whitening(net: nn.Module, images: ImageSet, preprocessing: Preprocessing) -> None:
    """Set the kernels of the whitening layer, if the network has one, in place.

    Over the patches of the first 5,000 images, the first half of the output channels have variance
    1 and no covariance; the second half are their negatives.
    """
    for module in net.modules():
        if isinstance(module, WhiteningLayer):
            half = _components(images, preprocessing, module.kernel_size[0])
            module.weight.copy_(torch.cat([half, -half]))


def _components(images: ImageSet, preprocessing: Preprocessing, size: int) -> Tensor:
    """Principal components of all patches ``(3 * size ** 2, 3, size, size)``, the largest first."""
    count, width = min(_IMAGES, len(images)), 3 * size * size
    products, rows = torch.zeros(width, width, dtype=torch.float64), 0
    # In portions: the patches need as much memory as the images times the pixels of a patch.
    for start in range(0, count, _AT_ONCE):
        positions = np.arange(start, min(start + _AT_ONCE, count))
        inputs = scale(torch.from_numpy(gather(images.pixels, positions)), preprocessing)
        patches = inputs.unfold(2, size, 1).unfold(3, size, 1)
        part = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, width).double()
        products += part.T @ part
        rows += len(part)
    variances, directions = torch.linalg.eigh(products / rows)
    scaled: Tensor = directions.T / torch.sqrt(variances + _FLOOR)[:, None]
    return scaled.flip(0).reshape(-1, 3, size, size).float()
