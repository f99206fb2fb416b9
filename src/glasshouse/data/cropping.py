"""Crop or letterbox: by what a crop to squares would take from the images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glasshouse.data.decode import image_size
from glasshouse.data.images import Resize

_LOOKED_AT = 1000
# A photo of 4:3 loses a quarter and one of 3:2 a third, and what shows is usually in the middle.
# Beyond that the edges are too much of the image to be thrown away unseen.
_BEARABLE = 0.35


def choose_resize(paths: Sequence[Path]) -> tuple[Resize, str]:
    """How files should be made square, with a sentence on why; empty where all are square.

    Looks at the sizes in the headers of up to a thousand files.
    """
    chosen = paths[:: max(1, len(paths) // _LOOKED_AT)]
    sizes = [size for path in chosen if (size := image_size(path)) is not None]
    losses = np.array([1 - min(size) / max(size) for size in sizes if min(size) > 0])
    if not losses.any():
        return "crop", ""
    mean, much = losses.mean(), (losses > _BEARABLE).mean()
    found = (
        f"A crop to squares takes {mean:.0%} of an image on average, and more than "
        f"{_BEARABLE:.0%} of {much:.0%} of the {len(losses):,} images looked at"
    )
    if mean <= _BEARABLE:
        return "crop", f"{found}, so they are cropped; data.resize sets it by hand."
    return "letterbox", f"{found}, so grey bars are added instead; data.resize sets it by hand."
