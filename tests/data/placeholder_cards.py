"""Cards that stand where a photo should be, drawn in the styles that web sites use."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = int


def card(
    words: str,
    *,
    size: tuple[int, int] = (400, 300),
    background: Colour = 204,
    ink: Colour = 110,
    letters: int = 28,
    quality: int | None = None,
) -> NDArray[np.uint8]:
    """A grey card with a text in its middle, ``(h, w, 3)``; quality: that of a JPEG file."""
    image = Image.new("L", size, background)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(letters)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), words, font=font)
    place = ((size[0] - (right - left)) // 2, (size[1] - (bottom - top)) // 2)
    draw.multiline_text(place, words, font=font, fill=ink, align="center")
    return _pixels(image, quality)


def icon_card(*, words: str = "", background: Colour = 255, ink: Colour = 170) -> NDArray[np.uint8]:
    """A white card with the icon of a picture: a frame, two hills and a sun."""
    image = Image.new("L", (400, 300), background)
    draw = ImageDraw.Draw(image)
    draw.rectangle((140, 105, 260, 195), outline=ink, width=6)
    draw.polygon((148, 187, 185, 135, 220, 187), fill=ink)
    draw.ellipse((215, 120, 235, 140), fill=ink)
    draw.text((165, 230), words, font=ImageFont.load_default(20), fill=ink)
    return _pixels(image, None)


def _pixels(image: Image.Image, quality: int | None) -> NDArray[np.uint8]:
    if quality is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        image = Image.open(buffer)
    return np.array(image.convert("RGB"), dtype=np.uint8)


CARDS = {
    "grey": card("image not found"),
    "white": card("no image available", background=255, ink=0),
    "two lines": card("NO IMAGE\nAVAILABLE", size=(300, 300), letters=36),
    "dark": card("image not found", background=40, ink=160),
    "pale": card("image not found", background=240, ink=200),
    "small": card("no photo", size=(150, 113), letters=14),
    "large": card("image not found", size=(1200, 900), letters=60),
    "wide": card("image not found", size=(600, 200), letters=40),
    "tall": card("image\nnot\nfound", size=(200, 300), letters=24),
    "compressed": card(
        "This photo is\nno longer available", background=255, ink=90, letters=30, quality=40
    ),
    "icon": icon_card(),
    "icon and text": icon_card(words="No photo", background=238, ink=150),
}
