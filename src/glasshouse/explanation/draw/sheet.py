"""The sheet of one image: original, prediction, every map, and what the checks say of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL.Image import Image

from glasshouse.explanation.draw.canvas import (
    HEADLINE,
    QUIET,
    TITLE,
    TITLE_HEIGHT,
    Canvas,
    Point,
    shorten,
    wrap,
)
from glasshouse.explanation.draw.overlay import DEFAULT, ColouredMap, Palette, as_rgb, colour_maps
from glasshouse.explanation.draw.rows import method_title
from glasshouse.explanation.nouns import (
    Explanation,
    ExplanationPage,
    class_name_at,
    target_name,
)
from glasshouse.models.predict import softmax

_VERDICTS = {
    "good": ("\N{CHECK MARK}", "#2e7d32"),
    "doubtful": ("!", "#b3261e"),
    "note": ("\N{BULLET}", QUIET),
}
_CELL, _SIDE, _LINE, _GAP, _HEAD, _MARGIN, _INDENT = 390, 308, 15, 24, 50, 11, 15
_MOST_CLASSES = 5

Draw = Callable[[Canvas, Point], None]


@dataclass(frozen=True)
class _Cell:
    """One cell of the sheet; lines are (verdict, text), the verdict only on a check's first."""

    title: str
    draw: Draw
    lines: tuple[tuple[str, str], ...] = ()


def draw_sheet(
    page: ExplanationPage, index: int = 0, *, palette: Palette = DEFAULT, columns: int = 4
) -> Image:
    """One image's whole page: original, prediction, every map, and what the checks say."""
    cells = _cells(page, index, palette)
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [
        TITLE_HEIGHT + _SIDE + _LINE * max(len(cell.lines) for cell in row) + _GAP for row in rows
    ]
    notes = _notes(page.explanations, columns * _CELL - 2 * _MARGIN)
    canvas = Canvas(columns * _CELL + _MARGIN, _HEAD + sum(heights) + _LINE * (len(notes) + 1))
    if page.explanations:
        title = f"Why {target_name(page.explanations[0], index)}?"
        canvas.write((_MARGIN, 12), shorten(title, columns * _CELL, HEADLINE), HEADLINE)
    top = _HEAD
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _place(canvas, cell, (column * _CELL + _MARGIN, top))
        top += height
    for number, line in enumerate(notes):
        canvas.write((_MARGIN, top + number * _LINE), line, colour=QUIET)
    return canvas.image


def _cells(page: ExplanationPage, index: int, palette: Palette) -> list[_Cell]:
    original = as_rgb(page.images[index])
    cells = [
        _Cell("original", lambda canvas, point: canvas.paste(point, original, _SIDE)),
        _Cell("prediction", partial(_draw_prediction, page=page, index=index)),
    ]
    for each in page.explanations:
        drawn = colour_maps(each, palette, index + 1)[index]
        lines = tuple(_check_lines(each))
        cells.append(_Cell(method_title(each), partial(_draw_map, drawn=drawn), lines))
    return cells


def _place(canvas: Canvas, cell: _Cell, corner: Point) -> None:
    left, top = corner
    canvas.write((left, top + 5), shorten(cell.title, _SIDE, TITLE), TITLE)
    cell.draw(canvas, (left, top + TITLE_HEIGHT))
    below = top + TITLE_HEIGHT + _SIDE + 6
    for number, (verdict, line) in enumerate(cell.lines):
        if verdict:
            mark, colour = _VERDICTS[verdict]
            canvas.write((left, below + number * _LINE), mark, colour=colour)
        canvas.write((left + _INDENT, below + number * _LINE), line)


def _draw_map(canvas: Canvas, point: Point, *, drawn: ColouredMap) -> None:
    canvas.paste(point, drawn.pixels, _SIDE)
    inset = _SIDE // 7
    place = point[0] + _SIDE + 7, point[1] + inset
    canvas.colour_bar(place, drawn.scale, _SIDE - 2 * inset)


def _draw_prediction(canvas: Canvas, point: Point, *, page: ExplanationPage, index: int) -> None:
    """The most probable classes with bars as long as their probabilities."""
    shares = softmax(page.logits[index].astype(np.float64) / page.temperature)
    left, top = point
    for row, position in enumerate(shares.argsort()[::-1][:_MOST_CLASSES].tolist()):
        base = top + 26 + row * 56
        name = shorten(class_name_at(page.class_names, position), _SIDE - 60, TITLE)
        canvas.write((left, base), name, TITLE, anchor="ls")
        canvas.write((left + _SIDE, base), f"{shares[position]:.1%}", TITLE, anchor="rs")
        canvas.fill((left, base + 6), (_SIDE, 16), "#e8edf3")
        canvas.fill((left, base + 6), (round(_SIDE * float(shares[position])), 16), "#3b6ea5")


def _check_lines(explanation: Explanation) -> Iterator[tuple[str, str]]:
    for check in explanation.checks:
        lines = wrap(check.words, _CELL - 2 * _INDENT - _MARGIN)
        yield from ((check.verdict if not number else "", x) for number, x in enumerate(lines))


def _notes(explanations: Sequence[Explanation], width: float) -> list[str]:
    """The notes and warnings of all maps, each once, with the methods that it applies to."""
    methods: dict[str, list[str]] = {}
    for explanation in explanations:
        for sentence in (*explanation.warnings, *explanation.notes):
            methods.setdefault(sentence, []).append(explanation.method)
    lines: list[str] = []
    for sentence, names in methods.items():
        whom = "" if sentence.startswith("Layer: ") else f"{', '.join(names)}: "
        lines += wrap(whom + sentence, width)
    return lines
