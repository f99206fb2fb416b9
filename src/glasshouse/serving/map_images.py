"""Maps and activations as image files, to be laid over a photo in a page."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glasshouse.data.decode import Pixels
from glasshouse.explanation.draw.canvas import SIGNED_COLOURS, to_png
from glasshouse.explanation.draw.mosaic import channel_grid
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.maps.enlargement import enlarge
from glasshouse.explanation.nouns import Activations, Explanation
from glasshouse.serving.explainer import ExplainedPhoto

COLOURS = ("jet", "inferno", "viridis")
_LARGEST_GRID = 900


@dataclass(frozen=True)
class Wanted:
    """Which map or layer, in which colours; opacity 0..1, of a map over the photo."""

    place: int = 0
    colours: str = COLOURS[0]
    opacity: float = 0.6


@dataclass(frozen=True)
class DrawnFile:
    """A file; with a name it is one to keep, without it is shown."""

    data: bytes
    name: str = ""
    media_type: str = "image/png"


def drawn_file(answer: ExplainedPhoto, kind: str, wanted: Wanted) -> DrawnFile | None:
    """A file of an answer; None for a kind, a map or a layer that there is not.

    kind: photo, map, layer to be shown; overlay, array and sheet to be kept.
    """
    counts = {"layer": len(answer.page.activations), "photo": 1, "sheet": 1}
    count = counts.get(kind, len(answer.page.explanations))
    if kind not in _FILES or not 0 <= wanted.place < count:
        return None
    return _FILES[kind](answer, wanted)


def map_file(answer: ExplainedPhoto, place: int, colours: str) -> bytes:
    """A map in colours, opaque, in the size of the photo that is shown."""
    return _png(_coloured(answer, place, colours))


def activation_file(layer: Activations) -> bytes:
    """All channels of a layer as tiles in viridis, each in its own scale; gaps are transparent."""
    tiles = channel_grid(layer).tiles
    rows, columns, height, width = tiles.shape
    gap = max(1, round(max(height, width) / 16))
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = tiles[row, column]
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=(0, 0, 0, 0))
    drawn = Image.fromarray(np.rint(colours(np.ma.masked_invalid(canvas)) * 255).astype(np.uint8))
    factor = max(1, _LARGEST_GRID // max(drawn.size))
    larger = (drawn.width * factor, drawn.height * factor)
    return _png(np.asarray(drawn.resize(larger, Image.Resampling.NEAREST)))


def is_signed(explanation: Explanation) -> bool:
    """Whether a map speaks for and against the class; a class activation map is shown for it."""
    return not _is_cam(explanation) and bool((explanation.maps < 0).any())


def _is_cam(explanation: Explanation) -> bool:
    return explanation.layer is not None and explanation.channels is None


def _coloured(answer: ExplainedPhoto, place: int, colours: str) -> Pixels:
    explanation = answer.page.explanations[place]
    height, width = answer.shown.shape[:2]
    values = _enlarged(explanation, height, width)
    if is_signed(explanation):
        # A few single pixels would otherwise pale all the others.
        limit = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
        name, scaled = SIGNED_COLOURS, (values / limit + 1) / 2
    else:
        limit = float(values.max() if _is_cam(explanation) else np.percentile(values, 99.5)) or 1.0
        name, scaled = colours if colours in COLOURS else COLOURS[0], values / limit
    coloured = matplotlib.colormaps[name](np.clip(scaled, 0, 1))[..., :3]
    result: Pixels = np.rint(coloured * 255).astype(np.uint8)
    return result


def _enlarged(explanation: Explanation, height: int, width: int) -> NDArray[np.float64]:
    """Bilinear for the few cells of a class activation map; pixels stay pixels."""
    values = np.asarray(explanation.maps[0], dtype=np.float64)
    if _is_cam(explanation):
        smooth = enlarge(torch.from_numpy(values)[None].clamp(min=0), height, width)
        large: NDArray[np.float64] = smooth[0].numpy()
        return large
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    whole: NDArray[np.float64] = values[rows[:, None], columns]
    return whole


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def _overlay(answer: ExplainedPhoto, wanted: Wanted) -> DrawnFile:
    share = min(1.0, max(0.0, wanted.opacity))
    mixed = share * _coloured(answer, wanted.place, wanted.colours) + (1 - share) * answer.shown
    data = _png(np.rint(mixed).astype(np.uint8))
    return DrawnFile(data, f"{_method(answer, wanted)}.png")


def _array(answer: ExplainedPhoto, wanted: Wanted) -> DrawnFile:
    buffer = io.BytesIO()
    np.save(buffer, answer.page.explanations[wanted.place].maps[0], allow_pickle=False)
    name = f"{_method(answer, wanted)}.npy"
    return DrawnFile(buffer.getvalue(), name, "application/octet-stream")


def _method(answer: ExplainedPhoto, wanted: Wanted) -> str:
    return answer.page.explanations[wanted.place].method


_FILES: dict[str, Callable[[ExplainedPhoto, Wanted], DrawnFile]] = {
    "photo": lambda answer, _: DrawnFile(_png(answer.shown)),
    "map": lambda answer, wanted: DrawnFile(map_file(answer, wanted.place, wanted.colours)),
    "layer": lambda answer, wanted: DrawnFile(
        activation_file(answer.page.activations[wanted.place])
    ),
    "overlay": _overlay,
    "array": _array,
    "sheet": lambda answer, _: DrawnFile(to_png(draw_sheet(answer.page)), "sheet.png"),
}
