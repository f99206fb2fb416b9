"""Image files in every format, generated when needed, and folders of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from glasshouse.data.decode import Pixels, decode
from glasshouse.data.fitting import fit_to_size
from glasshouse.data.images import Resize


def scene(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """A smooth gradient with a mark in the top left corner, uint8 ``(height, width, 3)``."""
    rows = np.linspace(0, 200, height)[:, None]
    columns = np.linspace(0, 50, width)[None, :]
    grey = rows + columns
    image = np.stack([grey, 250 - grey, np.full_like(grey, 10 * (seed % 25))], axis=2)
    image[: height // 4, : width // 4] = 255
    return image.astype(np.uint8)


def decoded(path: Path, height: int, width: int, resize: Resize = "crop") -> Pixels:
    """A file as a source holds it, uint8 ``(3, height, width)``."""
    return fit_to_size(decode(path), height, width, resize)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    """The bytes of an image in one of Pillow's formats."""
    buffer = io.BytesIO()
    (image or Image.fromarray(scene())).save(buffer, kind, **options)
    return buffer.getvalue()


def all_formats() -> dict[str, bytes]:
    """One intact file of each kind that can be written."""
    rgb = Image.fromarray(scene())
    return {
        "rgb.jpg": encoded("JPEG", quality=95),
        "grey.jpg": encoded("JPEG", rgb.convert("L")),
        "cmyk.jpg": encoded("JPEG", rgb.convert("CMYK"), quality=95),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "rgb.png": encoded("PNG"),
        "palette.png": encoded("PNG", rgb.convert("P")),
        "alpha.png": encoded("PNG", rgb.convert("RGBA")),
        "still.gif": encoded("GIF", rgb.convert("P")),
        "lossless.webp": encoded("WEBP", lossless=True),
        "plain.bmp": encoded("BMP"),
        "plain.tif": encoded("TIFF"),
        "packed.tif": encoded("TIFF", compression="tiff_lzw"),
        "plain.ppm": encoded("PPM"),
    }


def write_folder(root: Path, classes: dict[str, int], size: int = 12) -> Path:
    """Class folders with this many different PNG files; names may include a split, "train/cat"."""
    for number, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            random = np.random.default_rng([number, i])
            pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03d}.png")
    return root
