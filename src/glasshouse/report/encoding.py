"""Images and figures as bytes and as data: URIs, which a page can embed."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

# Small images are stored losslessly; large ones are shrunk, which keeps pages small.
_EXACT, _LARGEST = 64, 192


def rows_first(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image ``(3, h, w)`` in 0..255 as uint8 ``(h, w, 3)``, for display."""
    whole = np.clip(np.rint(np.asarray(image, dtype=np.float32)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(1, 2, 0))


def image_file(image: NDArray[np.uint8]) -> tuple[bytes, str]:
    """An image ``(3, h, w)`` as a file, and its media type; JPEG of at most 192 pixels above 64."""
    pil = Image.fromarray(rows_first(image))
    buffer = io.BytesIO()
    if max(pil.size) <= _EXACT:
        pil.save(buffer, "PNG", optimize=True)
        return buffer.getvalue(), "image/png"
    pil.thumbnail((_LARGEST, _LARGEST))
    pil.save(buffer, "JPEG", quality=88)
    return buffer.getvalue(), "image/jpeg"


def image_uri(image: NDArray[np.uint8]) -> str:
    """An image ``(3, h, w)`` as a data: URI; above 64 pixels a JPEG of at most 192."""
    return data_uri(*image_file(image))


def strip_uri(images: NDArray[np.uint8], side: int) -> str:
    """Images ``(n, 3, h, w)`` in a row of this height, as a data: URI.

    A JPEG, since noise would make a lossless file large.
    """
    tiles = []
    for each in images:
        tile = Image.fromarray(rows_first(each))
        # Enlarged without smoothing, so that an image of 8x8 pixels looks like one.
        method = Image.Resampling.NEAREST if tile.height < side else Image.Resampling.BICUBIC
        width = max(1, round(side * tile.width / tile.height))
        tiles.append(np.asarray(tile.resize((min(width, 4 * side), side), method)))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(tiles, axis=1)).save(buffer, "JPEG", quality=82)
    return data_uri(buffer.getvalue(), "image/jpeg")


def figure_png(figure: Figure, dpi: int = 160) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def data_uri(data: bytes, media_type: str) -> str:
    """Bytes as a data: URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
