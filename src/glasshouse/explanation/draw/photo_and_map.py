"""One map to show to others: the photo and its overlay side by side, with what they are about."""

from PIL.Image import Image

from glasshouse.explanation.draw.canvas import BAR_WIDTH, QUIET, Canvas, shorten
from glasshouse.explanation.draw.overlay import DEFAULT, Palette, as_rgb, colour_maps
from glasshouse.explanation.draw.sheet_words import described_page, method_titles, question_of
from glasshouse.explanation.nouns import ExplanationPage

_SIDE, _MARGIN, _GAP, _HEAD = 480, 22, 16, 70
_HEADLINE, _BODY = 20, 13


def draw_photo_and_map(
    page: ExplanationPage, place: int, index: int = 0, *, palette: Palette = DEFAULT
) -> Image:
    """One image, and next to it one of the page's maps over it; place: which of them.

    Where the map is zero, the image is seen unchanged in grey.
    """
    explanation = page.explanations[place]
    drawn = colour_maps(explanation, palette, index + 1)[index]
    second = _MARGIN + _SIDE + _GAP
    height, width = drawn.pixels.shape[:2]
    tall = round(_SIDE * height / max(height, width))
    canvas = Canvas(second + _SIDE + BAR_WIDTH + _GAP, _HEAD + tall + _MARGIN)
    room = canvas.image.width - 2 * _MARGIN
    title = f"{question_of(page, index, 40)} {method_titles([explanation])}"
    canvas.write((_MARGIN, 14), shorten(title, room, _HEADLINE), _HEADLINE)
    said = shorten(described_page(page, index), room, _BODY)
    canvas.write((_MARGIN, 44), said, _BODY, QUIET)
    canvas.paste((_MARGIN, _HEAD), as_rgb(page.images[index]), _SIDE)
    canvas.paste((second, _HEAD), drawn.pixels, _SIDE)
    inset = tall // 8
    canvas.colour_bar((second + _SIDE + 7, _HEAD + inset), drawn.scale, tall - 2 * inset)
    return canvas.image
