"""What a notebook shows for each noun."""

from functools import singledispatch

from PIL.Image import Image

from glasshouse.explanation.draw.canvas import to_html, to_png
from glasshouse.explanation.draw.rows import draw_explanation, draw_mistakes
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.tiles import draw_activations
from glasshouse.explanation.nouns import Activations, Explanation, ExplanationPage, Mistakes


def png_of(thing: object) -> bytes:
    """The noun as a PNG file."""
    return to_png(_drawn(thing))


def html_of(explanation: Explanation) -> str:
    """The maps, then the warnings and what the checks say, as HTML."""
    words = (*explanation.warnings, *(check.words for check in explanation.checks))
    return to_html(png_of(explanation), words)


@singledispatch
def _drawn(thing: object) -> Image:
    raise TypeError(f"expected an explanation, a page, activations or mistakes, got {type(thing)}")


@_drawn.register
def _(explanation: Explanation) -> Image:
    return draw_explanation(explanation)


@_drawn.register
def _(page: ExplanationPage) -> Image:
    return draw_sheet(page)


@_drawn.register
def _(activations: Activations) -> Image:
    return draw_activations(activations)


@_drawn.register
def _(mistakes: Mistakes) -> Image:
    return draw_mistakes(mistakes)
