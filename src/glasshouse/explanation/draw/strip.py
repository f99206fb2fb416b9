"""The same images' maps as training goes on: a row per image, a column per epoch."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glasshouse.explanation.draw.canvas import new_figure, shorten
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, Floats, target_name
from glasshouse.models.predict import softmax

# A strip of more snapshots shows so many of them.
COLUMNS = 10
_TILE = 1.25
_COLOURS = "inferno"


def draw_strip(
    snapshots: Sequence[tuple[str, Explanation]], *, most: int = 8, columns: int = COLUMNS
) -> Figure:
    """Each image, and its map in every snapshot with the probability of the explained class.

    snapshots: a title, for example "epoch 3", and the explanation. A row has one colour scale. Of
    more snapshots than columns, as many are drawn, the first and the last among them.
    """
    places = np.linspace(0, len(snapshots) - 1, min(columns, len(snapshots))).round().astype(int)
    chosen = [snapshots[place] for place in places]
    first = chosen[0][1]
    rows = min(len(first), most)
    maps = [shown(explanation) for _, explanation in chosen]
    side = max(first.images.shape[2:])
    gap = max(1, side // 16)
    step = side + gap
    canvas = np.ones((rows * step - gap, (len(chosen) + 1) * step - gap, 3))
    for row in range(rows):
        limit = max(float(np.abs(each[row]).max()) for each in maps) or 1.0
        tiles = [np.moveaxis(first.images[row], 0, 2) / 255]
        tiles += [_overlaid(tiles[0], each[row], limit) for each in maps]
        for column, tile in enumerate(tiles):
            height, width = tile.shape[:2]
            top, left = row * step, column * step
            canvas[top : top + height, left : left + width] = tile
    figure = new_figure((len(chosen) + 1) * _TILE, rows * _TILE + 0.4)
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(canvas, interpolation="nearest")
    axes.set_axis_off()
    _label(axes, chosen, rows, (side, step))
    return figure


def _overlaid(image: Floats, values: Floats, limit: float) -> Floats:
    """A map over the grey image ``(h, w, 3)``, which shows through where the map is weak."""
    strength = np.clip(np.abs(values) / limit, 0, 1)
    colours = matplotlib.colormaps[_COLOURS](strength)[..., :3]
    share = (0.25 + 0.5 * strength)[..., None]
    mixed: Floats = image.mean(2, keepdims=True) * (1 - share) + colours * share
    return mixed


def _label(
    axes: Axes,
    chosen: Sequence[tuple[str, Explanation]],
    rows: int,
    sizes: tuple[int, int],
) -> None:
    side, step = sizes
    for column, (title, explanation) in enumerate(chosen, start=1):
        middle = column * step + side / 2
        axes.text(middle, -0.06 * side, title, fontsize=7, ha="center", va="bottom")
        for row in range(rows):
            words = f"{_probability(explanation, row):.0%}"
            place = column * step + 0.04 * side, (row * step + 0.97 * side)
            axes.text(*place, words, fontsize=6.5, color="white", va="bottom")
    for row in range(rows):
        name = shorten(target_name(chosen[0][1], row), 14)
        place = -0.06 * side, row * step + side / 2
        axes.text(*place, name, fontsize=7, ha="right", va="center")


def _probability(explanation: Explanation, row: int) -> float:
    return float(softmax(explanation.logits[row])[explanation.targets[row]])
