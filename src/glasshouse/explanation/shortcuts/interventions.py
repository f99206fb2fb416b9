"""Changes of images that remove one possible shortcut, or give an image that of another class.

All take and return uint8 ``(n, 3, h, w)`` and leave their arguments unchanged.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def replace_place(images: Pixels, others: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """The images with the pixels of others at a place ``(h, w)``, or ``(n, h, w)``."""
    where = mask[:, None] if mask.ndim == 3 else mask
    replaced: Pixels = np.where(where, others, images)
    return replaced


def cover(images: Pixels, mask: NDArray[np.bool_], colour: Floats) -> Pixels:
    """The images with a place ``(h, w)`` in one colour ``(3,)`` of 0..255."""
    filled = np.broadcast_to(_bytes(colour)[:, None, None], images.shape)
    return replace_place(images, filled, mask)


def shift(images: Pixels, amount: Floats) -> Pixels:
    """The images with a value added, ``(n, 3, h, w)`` or smaller, within 0..255."""
    return _bytes(images.astype(np.float32) + amount)


def without_colour(images: Pixels) -> Pixels:
    """The images in grey, by their luminance."""
    return np.repeat(_bytes(luminance(images))[:, None], 3, axis=1)


def low_pass(images: Pixels, sigma: float) -> Pixels:
    """The images blurred by a Gaussian; sigma in pixels."""
    blurred = gaussian_filter(
        images.astype(np.float32), (0, 0, sigma, sigma), mode="nearest", truncate=3
    )
    return _bytes(blurred)


def blur_surroundings(images: Pixels, masks: NDArray[np.bool_], sigma: float) -> Pixels:
    """The images blurred outside of the object, whose masks are ``(n, h, w)``."""
    return replace_place(images, low_pass(images, sigma), ~masks)


def compress(images: Pixels, quality: int) -> Pixels:
    """The images after compression as JPEG; quality as Pillow has it, 1 to 95."""
    found = np.empty_like(images)
    for row, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality)
        found[row] = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    return found


def luminance(images: Pixels) -> Floats:
    """The brightness of each pixel ``(n, h, w)``, 0..255."""
    found: Floats = np.einsum("nchw,c->nhw", images.astype(np.float32), _LUMINANCE)
    return found


def _bytes(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
