"""The same images' maps in the course of training: a row per image, a column per epoch."""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from glasshouse.explanation.draw.canvas import Canvas, shorten
from glasshouse.explanation.draw.overlay import DEFAULT, ColourScale, as_rgb, overlaid
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, target_name
from glasshouse.models.predict import to_probabilities
from glasshouse.wording import percentage

# Of more snapshots, this many are drawn.
COLUMNS = 10
_SIDE, _GAP, _NAME, _HEAD = 132, 8, 90, 22
_STEP = _SIDE + _GAP


def draw_strip(
    snapshots: Sequence[tuple[str, Explanation]],
    *,
    thresholds: tuple[float, ...] | None = None,
    most: int = 8,
    columns: int = COLUMNS,
) -> Image:
    """Each image, and its map in every snapshot with the probability of the explained class.

    snapshots: a title, for example "epoch 3", and the explanation. A row has one colour scale. If
    there are more snapshots than columns, evenly spaced ones are drawn, with the first and last.
    thresholds: of the labels, where an image may have several.
    """
    places = np.linspace(0, len(snapshots) - 1, min(columns, len(snapshots))).round().astype(int)
    chosen = [snapshots[place] for place in places]
    first = chosen[0][1]
    rows = min(len(first), most)
    maps = [shown(explanation) for _, explanation in chosen]
    canvas = Canvas(_NAME + (len(chosen) + 1) * _STEP, _HEAD + rows * _STEP)
    for column, (title, _) in enumerate(chosen, start=1):
        middle = _NAME + column * _STEP + _SIDE / 2
        canvas.write((middle, _HEAD - 5), shorten(title, _SIDE), anchor="ms")
    for row in range(rows):
        top = _HEAD + row * _STEP
        name = shorten(target_name(first, row), _NAME - 12)
        canvas.write((_NAME - 6, top + _SIDE / 2), name, anchor="rm")
        image = as_rgb(first.images[row])
        canvas.paste((_NAME, top), image, _SIDE)
        limit = max(float(np.abs(each[row]).max()) for each in maps) or 1.0
        scale = ColourScale(0.0, limit, DEFAULT)
        for column, (_, explanation) in enumerate(chosen, start=1):
            left = _NAME + column * _STEP
            canvas.paste((left, top), overlaid(image, maps[column - 1][row], scale), _SIDE)
            shares = to_probabilities(explanation.logits[row], 1.0, thresholds)
            share = shares[explanation.targets[row]]
            canvas.write_over((left + 5, top + _SIDE - 5), percentage(share, 0))
    return canvas.image
