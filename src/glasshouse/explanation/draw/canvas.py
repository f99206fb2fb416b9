"""A white canvas for images, text and colour bars, measured in pixels.

Drawn with Pillow: matplotlib spends a second on the layout of a sheet, which needs no axes at all.
"""

import base64
import html
import io
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glasshouse.explanation.draw.fonts import OWN_FONT, drawable, is_shaped, pieces
from glasshouse.explanation.draw.overlay import RGB, ColourScale, coloured

# Font sizes.
HEADLINE, TITLE, BODY, SMALL = 21, 13, 11, 10
INK, QUIET = "#222222", "#555555"
# Space for a title above an image, and for a colour bar with its numbers to the right of one.
TITLE_HEIGHT, BAR_WIDTH = 24, 62
Point = tuple[float, float]


class Canvas:
    """An image that is drawn on; a point is (from the left, from the top)."""

    def __init__(self, width: float, height: float) -> None:
        self.image: Image.Image = Image.new("RGB", (math.ceil(width), math.ceil(height)), "white")
        self._draw = ImageDraw.Draw(self.image)

    def write(
        self, point: Point, text: str, size: int = BODY, colour: str = INK, anchor: str = "la"
    ) -> None:
        """A line of text; anchor: as in Pillow, "la" puts its upper left corner at the point."""
        text = drawable(text)
        if text.isascii() or pieces(text) == ((text, OWN_FONT),):
            font = _font_for(text, size)
            self._draw.text(point, text, fill=colour, font=font, anchor=anchor)
            return
        left = point[0] - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(text, size)
        base = point[1] + _above_baseline(size, anchor[1])
        for part, path in pieces(text):
            font = _font(size, path, is_shaped(part))
            self._draw.text((left, base), part, fill=colour, font=font, anchor="ls")
            left += font.getlength(part)

    def write_over(self, point: Point, text: str) -> None:
        """White text with a dark outline, legible on any image, from its lower left corner."""
        font = _font(BODY)
        self._draw.text(point, text, "white", font, "ls", stroke_width=1, stroke_fill="#333333")

    def paste(self, point: Point, pixels: RGB, side: int) -> None:
        """Pixels ``(h, w, 3)``, enlarged or reduced so that the longer side has this length."""
        self.image.paste(_resized(pixels, side), (round(point[0]), round(point[1])))

    def fill(self, point: Point, size: Point, colour: str) -> None:
        """A rectangle of this (width, height)."""
        if size[0] >= 1:
            corner = (point[0] + size[0] - 1, point[1] + size[1] - 1)
            self._draw.rectangle((*point, *corner), fill=colour)

    def line(self, start: Point, end: Point, colour: str, width: int = 1) -> None:
        """A line of this width."""
        self._draw.line((*start, *end), fill=colour, width=width)

    def colour_bar(self, point: Point, scale: ColourScale, height: int) -> None:
        """The colours of a scale from high to low, with three of their values."""
        values = np.linspace(scale.high, scale.low, height)
        strip = coloured(np.repeat(values[:, None], 10, axis=1), scale)
        self.image.paste(Image.fromarray(strip), (round(point[0]), round(point[1])))
        for share in (0, 0.5, 1):
            value = scale.high + share * (scale.low - scale.high)
            place = point[0] + 14, point[1] + share * (height - 1)
            # From 99.5 on, two digits would be written as 1e+02.
            said = f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.2g}"
            self.write(place, said, SMALL, anchor="lm")


def to_png(image: Image.Image) -> bytes:
    """The image as a PNG file; equal images give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def to_html(png: bytes, sentences: Sequence[str]) -> str:
    """The image and its sentences as HTML that loads nothing from elsewhere."""
    image = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="explanation">'
    return image + "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def wrap(text: str, width: float, size: int = BODY) -> list[str]:
    """The text as lines of at most this width, broken between words.

    A word that is wider, such as the name of a layer, is broken after its dots and underscores, or
    anywhere. A number stays with the percent sign that follows it.
    """
    lines: list[str] = []
    for word in re.findall(r"\S+(?:\s+%\S*)*", text):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines += _broken(word, width, size)
    return lines


def _broken(word: str, width: float, size: int) -> list[str]:
    """A word in lines of at most this width."""
    if text_width(word, size) <= width:
        return [word]
    lines = [""]
    for part in re.findall(r".*?[._/-]+|.+", drawable(word)):
        # A part that is too wide by itself is broken between any two characters.
        for piece in [part] if text_width(part, size) <= width else part:
            if lines[-1] and text_width(lines[-1] + piece, size) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def text_width(text: str, size: int) -> float:
    """How wide a line of text is when it is written."""
    text = drawable(text)
    if text.isascii():
        return _font(size).getlength(text)
    return sum(_font(size, path, is_shaped(part)).getlength(part) for part, path in pieces(text))


def shorten(text: str, width: float, size: int = BODY, *, keep_end: bool = False) -> str:
    """The text, with an ellipsis for what does not fit into the width."""
    if text_width(text, size) <= width:
        return text
    kept = drawable(text)
    while kept and text_width(f"{kept}…", size) > width:
        kept = kept[1:] if keep_end else kept[:-1]
    return f"…{kept}" if keep_end else f"{kept}…"


def _font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    return _font(size, OWN_FONT, is_shaped(text))


@cache
def _font(size: int, path: Path = OWN_FONT, shapes: bool = False) -> ImageFont.FreeTypeFont:
    # The plain layout is used where it is enough, so that a sheet has the same bytes everywhere.
    layout = ImageFont.Layout.RAQM if shapes else ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size, layout_engine=layout)


def _above_baseline(size: int, vertical: str) -> float:
    """How far the baseline is below what an anchor means: the same for all fonts of a line."""
    ascent, descent = _font(size).getmetrics()
    return {"a": float(ascent), "m": (ascent - descent) / 2, "s": 0.0}[vertical]


def _resized(pixels: RGB, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    factor = side / max(image.size)
    # Enlarged little, unequal pixels would look like a pattern; enlarged much, they stay pixels.
    way = Image.Resampling.NEAREST if factor >= 3 or factor == 1 else Image.Resampling.BICUBIC
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, way)
