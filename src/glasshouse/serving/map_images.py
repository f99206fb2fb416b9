"""Photos, maps and activations as image files, for a page or to be downloaded."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.mosaic import channel_grid, mosaic
from glasshouse.explanation.draw.overlay import (
    DEFAULT,
    PALETTES,
    Palette,
    colour_scale,
    in_grey,
    overlay,
)
from glasshouse.explanation.draw.photo_and_map import draw_photo_and_map
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Activations, ExplanationPage
from glasshouse.serving.explainer import ExplainedPhoto, explainer_of
from glasshouse.serving.workbench import Workbench

_LARGEST_GRID = 900


@dataclass(frozen=True)
class Wanted:
    """Which map or layer to draw, in which colours."""

    place: int = 0
    colours: str = DEFAULT


@dataclass(frozen=True)
class DrawnFile:
    """A file; one with a name is to be downloaded, one without is displayed."""

    data: bytes
    name: str = ""
    media_type: str = "image/png"


def drawn_file(answer: ExplainedPhoto, kind: str, wanted: Wanted) -> DrawnFile | None:
    """A file of an answer; None for a kind, a map or a layer that does not exist.

    kind: photo, grey (the photo below a map), map or layer to be displayed; overlay, array or sheet
    to be downloaded.
    """
    counts = {"layer": len(answer.page.activations), "photo": 1, "grey": 1, "sheet": 1}
    count = counts.get(kind, len(answer.page.explanations))
    if kind not in _FILES or not 0 <= wanted.place < count:
        return None
    return _FILES[kind](answer, wanted)


def file_of_answer(
    workbench: Workbench, key: str, kind: str, *, place: int, colours: str
) -> DrawnFile | None:
    """`drawn_file` of the answer with this key; None also where the answer is no longer kept."""
    answer = explainer_of(workbench).answer(key)
    if answer is None:
        return None
    return drawn_file(answer, kind, Wanted(place, colours))


def map_file(answer: ExplainedPhoto, place: int, colours: str) -> bytes:
    """A map to lay over the displayed photo in grey, as the files of `explain` do."""
    explanation = answer.page.explanations[place]
    values = shown(explanation, answer.shown.shape[:2])[0]
    return _png(overlay(values, colour_scale(explanation, values, _palette(colours))))


def activation_file(layer: Activations) -> bytes:
    """All channels of a layer as tiles, each on its own scale; gaps are transparent."""
    grid = channel_grid(layer)
    factor = max(1, _LARGEST_GRID // max(mosaic(grid).shape))
    return _png(mosaic(grid, factor))


def _palette(colours: str) -> Palette:
    return colours if colours in PALETTES else DEFAULT


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return to_png(Image.fromarray(np.ascontiguousarray(pixels)))


def _overlay(answer: ExplainedPhoto, wanted: Wanted) -> DrawnFile:
    palette = _palette(wanted.colours)
    drawn = draw_photo_and_map(_named_page(answer), wanted.place, palette=palette)
    return DrawnFile(to_png(drawn), f"{_method(answer, wanted)}.png")


def _array(answer: ExplainedPhoto, wanted: Wanted) -> DrawnFile:
    buffer = io.BytesIO()
    np.save(buffer, answer.page.explanations[wanted.place].maps[0], allow_pickle=False)
    name = f"{_method(answer, wanted)}.npy"
    return DrawnFile(buffer.getvalue(), name, "application/octet-stream")


def _sheet(answer: ExplainedPhoto, wanted: Wanted) -> DrawnFile:
    drawn = draw_sheet(_named_page(answer), palette=_palette(wanted.colours))
    return DrawnFile(to_png(drawn), "sheet.png")


def _named_page(answer: ExplainedPhoto) -> ExplanationPage:
    return replace(answer.page, names=(answer.photo.name,), model=str(answer.model))


def _method(answer: ExplainedPhoto, wanted: Wanted) -> str:
    return answer.page.explanations[wanted.place].method


_FILES: dict[str, Callable[[ExplainedPhoto, Wanted], DrawnFile]] = {
    "photo": lambda answer, _: DrawnFile(_png(answer.shown)),
    "grey": lambda answer, _: DrawnFile(_png(in_grey(answer.shown))),
    "map": lambda answer, wanted: DrawnFile(map_file(answer, wanted.place, wanted.colours)),
    "layer": lambda answer, wanted: DrawnFile(
        activation_file(answer.page.activations[wanted.place])
    ),
    "overlay": _overlay,
    "array": _array,
    "sheet": _sheet,
}
