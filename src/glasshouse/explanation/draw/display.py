"""What a notebook shows for each noun."""

from functools import singledispatch

from matplotlib.figure import Figure

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
def _drawn(thing: object) -> Figure:
    raise TypeError(f"expected an explanation, a page, activations or mistakes, got {type(thing)}")


@_drawn.register
def _(explanation: Explanation) -> Figure:
    return draw_explanation(explanation)


@_drawn.register
def _(page: ExplanationPage) -> Figure:
    return draw_sheet(page)


@_drawn.register
def _(activations: Activations) -> Figure:
    return draw_activations(activations)


@_drawn.register
def _(mistakes: Mistakes) -> Figure:
    return draw_mistakes(mistakes)
