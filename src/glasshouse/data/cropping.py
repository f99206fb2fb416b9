"""Crop or letterbox, depending on how much of the images cropping would remove."""

from collections.abc import Sequence

import numpy as np

from glasshouse.data.decode import image_size
from glasshouse.data.embedded import ImageFile, sampled
from glasshouse.data.images import Resize
from glasshouse.wording import percentage

_SAMPLED = 1000
# A 4:3 photo loses a quarter and a 3:2 photo a third, and the subject is usually in the middle.
# Beyond that, the edges are too large a part of the image to be discarded.
_ACCEPTABLE = 0.35


def choose_resize(paths: Sequence[ImageFile]) -> tuple[Resize, str]:
    """How to make files square, and a sentence on why; the sentence is empty if all are square.

    Reads the sizes in the headers of up to a thousand files.
    """
    chosen = sampled(paths, _SAMPLED)
    sizes = [size for path in chosen if (size := image_size(path)) is not None]
    losses = np.array([1 - min(size) / max(size) for size in sizes if min(size) > 0])
    if not losses.any():
        return "crop", ""
    mean, much = losses.mean(), (losses > _ACCEPTABLE).mean()
    lost = (
        f"{percentage(mean, 0)} of an image on average, and more than {percentage(_ACCEPTABLE, 0)} "
        f"from {percentage(much, 0)} of the {len(losses):,} images sampled"
    )
    if mean <= _ACCEPTABLE:
        return "crop", (
            f"Images are cropped to squares, which removes {lost}. data.resize=letterbox keeps all."
        )
    return "letterbox", (
        f"Images get grey bars, as cropping to squares would remove {lost}. data.resize=crop crops."
    )
