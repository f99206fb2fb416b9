"""Images next to their maps: one explanation of several images, and misclassified images."""

from PIL.Image import Image

from glasshouse.explanation.draw.canvas import (
    BAR_WIDTH,
    HEADLINE,
    TITLE,
    TITLE_HEIGHT,
    Canvas,
    Point,
    shorten,
)
from glasshouse.explanation.draw.overlay import (
    DEFAULT,
    RGB,
    ColouredMap,
    Palette,
    as_rgb,
    colour_maps,
)
from glasshouse.explanation.nouns import Explanation, Mistakes, target_name
from glasshouse.wording import abbreviated, percentage

_SIDE, _MARGIN, _HEAD = 252, 10, 40
_CELL, _ROW = _SIDE + BAR_WIDTH + 8, TITLE_HEIGHT + _SIDE + 14


def draw_explanation(
    explanation: Explanation, *, palette: Palette = DEFAULT, most: int = 8
) -> Image:
    """The images in a row, and below each its map with a colour bar in logit units.

    The map of a single image is next to it.
    """
    maps = colour_maps(explanation, palette, most)
    right, down = (_CELL, 0) if len(maps) == 1 else (0, _ROW)
    canvas = Canvas(len(maps) * _CELL + right + _MARGIN, _HEAD + _ROW + down)
    room = canvas.image.width - 2 * _MARGIN
    title = abbreviated(method_title(explanation), 60)
    canvas.write((_MARGIN, 12), shorten(title, room, TITLE + 2), TITLE + 2)
    for index, drawn in enumerate(maps):
        left = _MARGIN + index * _CELL
        image = as_rgb(explanation.images[index])
        _place(canvas, (left, _HEAD), target_name(explanation, index), image)
        _place(canvas, (left + right, _HEAD + down), "", drawn)
    return canvas.image


def draw_mistakes(mistakes: Mistakes, *, palette: Palette = DEFAULT) -> Image:
    """A row per image: original, why the predicted, why the true, why one rather than the other."""
    count = len(mistakes.ids)
    columns = (mistakes.predicted, mistakes.true, mistakes.contrast)
    maps = [colour_maps(explanation, palette, count) for explanation in columns]
    canvas = Canvas(4 * _CELL + _MARGIN, _HEAD + count * _ROW)
    canvas.write((_MARGIN, 10), mistakes.title, HEADLINE - 3)
    for row in range(count):
        top = _HEAD + row * _ROW
        title = shorten(str(mistakes.ids[row]), _SIDE, TITLE, keep_end=True)
        _place(canvas, (_MARGIN, top), title, as_rgb(mistakes.predicted.images[row]))
        for column, explanation in enumerate(columns):
            words = ("predicted: ", "true: ", "")[column] + target_name(explanation, row)
            share = f" ({percentage(mistakes.probabilities[row], 0)})" if column == 0 else ""
            title = shorten(words, _SIDE - (50 if share else 0), TITLE) + share
            left = _MARGIN + (column + 1) * _CELL
            _place(canvas, (left, top), title, maps[column][row])
    return canvas.image


def method_title(explanation: Explanation) -> str:
    """The method and, for a class activation map, its layer."""
    return explanation.method + (f" at {explanation.layer}" if explanation.layer else "")


def _place(canvas: Canvas, corner: Point, title: str, what: RGB | ColouredMap) -> None:
    left, top = corner
    canvas.write((left, top + 4), shorten(title, _SIDE, TITLE), TITLE)
    pixels = what.pixels if isinstance(what, ColouredMap) else what
    canvas.paste((left, top + TITLE_HEIGHT), pixels, _SIDE)
    if isinstance(what, ColouredMap):
        inset = _SIDE // 7
        place = left + _SIDE + 7, top + TITLE_HEIGHT + inset
        canvas.colour_bar(place, what.scale, _SIDE - 2 * inset)
