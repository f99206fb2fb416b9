"""The sheet of one image: original, prediction, every map, and what the checks say of each."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glasshouse.explanation.draw.canvas import (
    TITLE,
    ColourMap,
    add_cell,
    draw_image,
    draw_map,
    method_title,
    plain_figure,
    set_title,
    shorten,
    write,
)
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, ExplanationPage, target_name
from glasshouse.models.predict import softmax

_VERDICTS = {
    "good": ("\N{CHECK MARK}", "#2e7d32"),
    "doubtful": ("!", "#b3261e"),
    "note": ("\N{BULLET}", "#555555"),
}
# Inches.
_CELL, _SIDE, _LINE, _GAP, _TOP = 3.5, 2.8, 0.135, 0.22, 0.5
_LETTERS = 54
_FOOT_LETTERS = 62


@dataclass(frozen=True)
class _Cell:
    """One place of the sheet; words are (verdict, line), the verdict empty but at the first."""

    title: str
    draw: Callable[[Axes, Axes | None], None]
    words: tuple[tuple[str, str], ...] = ()
    has_bar: bool = False


def draw_sheet(
    page: ExplanationPage, index: int = 0, *, colours: ColourMap = "jet", columns: int = 4
) -> Figure:
    """One image's whole page: original, prediction, every map, and what the checks say."""
    cells = _cells(page, index, colours)
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [TITLE + _SIDE + _LINE * max(len(cell.words) for cell in row) + _GAP for row in rows]
    notes = _notes(page.explanations, _FOOT_LETTERS * columns)
    height = _TOP + sum(heights) + _LINE * (len(notes) + 1)
    figure = plain_figure(columns * _CELL + 0.1, height)
    if page.explanations:
        words = f"Why {target_name(page.explanations[0], index)}?"
        write(figure, (0.1, height - 0.1), words, size=15)
    top = height - _TOP
    for row, tall in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _place(figure, cell, (column * _CELL + 0.1, top))
        top -= tall
    for number, line in enumerate(notes):
        write(figure, (0.1, top - number * _LINE), line, colour="#555555")
    return figure


def _cells(page: ExplanationPage, index: int, colours: ColourMap) -> list[_Cell]:
    cells = [
        _Cell("original", lambda axes, _: draw_image(axes, page.images[index])),
        _Cell("prediction", lambda axes, _: _draw_prediction(axes, page, index)),
    ]
    for explanation in page.explanations:
        draw = partial(_draw, explanation=explanation, index=index, colours=colours)
        words = tuple(_words(explanation))
        cells.append(_Cell(method_title(explanation), draw, words, has_bar=True))
    return cells


def _draw(
    axes: Axes, bar: Axes | None, *, explanation: Explanation, index: int, colours: str
) -> None:
    image = explanation.images[index]
    draw_map(axes, explanation, shown(explanation)[index], image, colours, bar)


def _place(figure: Figure, cell: _Cell, corner: tuple[float, float]) -> None:
    left, top = corner
    axes, bar = add_cell(figure, left, top, side=_SIDE, has_bar=cell.has_bar)
    cell.draw(axes, bar)
    set_title(axes, shorten(cell.title, 44))
    below = top - TITLE - _SIDE - 0.06
    for number, (verdict, line) in enumerate(cell.words):
        height = below - number * _LINE
        if verdict:
            mark, colour = _VERDICTS[verdict]
            write(figure, (left, height), mark, colour=colour)
        write(figure, (left + 0.14, height), line)


def _draw_prediction(axes: Axes, page: ExplanationPage, index: int, most: int = 5) -> None:
    shares = softmax(page.logits[index].astype(np.float64) / page.temperature)
    order = shares.argsort()[::-1][:most]
    names = [page.class_names[k] if page.class_names else str(k) for k in order]
    axes.barh(range(len(order)), shares[order], height=0.3, color="#3b6ea5")
    axes.barh(range(len(order)), 1 - shares[order], 0.3, shares[order], color="#e8edf3")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(order) - 0.6, -0.7)
    axes.set_axis_off()
    for row, (name, share) in enumerate(zip(names, shares[order], strict=True)):
        axes.text(0, row - 0.22, shorten(name, 30), fontsize=8, va="bottom")
        axes.text(1, row - 0.22, f"{share:.1%}", fontsize=8, va="bottom", ha="right")


def _words(explanation: Explanation) -> Iterator[tuple[str, str]]:
    for check in explanation.checks:
        lines = textwrap.wrap(check.words, _LETTERS)
        yield from ((check.verdict if not number else "", x) for number, x in enumerate(lines))


def _notes(explanations: Sequence[Explanation], letters: int) -> list[str]:
    """What holds for several maps, said once with the names of the methods."""
    methods: dict[str, list[str]] = {}
    for explanation in explanations:
        for sentence in (*explanation.warnings, *explanation.notes):
            methods.setdefault(sentence, []).append(explanation.method)
    lines: list[str] = []
    for sentence, names in methods.items():
        whom = "" if sentence.startswith("Layer: ") else f"{', '.join(names)}: "
        lines += textwrap.wrap(whom + sentence, letters, subsequent_indent="    ")
    return lines
