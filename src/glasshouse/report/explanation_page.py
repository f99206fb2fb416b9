"""A self-contained page of explained mistakes, next to the report of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glasshouse.evaluation.multi_label import LabelError
from glasshouse.explanation.draw.overlay import DEFAULT, colour_maps
from glasshouse.explanation.label_mistakes import LabelMistakes
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import METHODS
from glasshouse.explanation.nouns import Explanation, Mistakes, target_name
from glasshouse.explanation.trust.localisation import Localisation
from glasshouse.report.html import Tile, render_template, tile
from glasshouse.report.label_report import label_rows
from glasshouse.report.near_tiles import NOTHING_NEAR, NearTile, NearTiles
from glasshouse.storage import write_text


@dataclass(frozen=True)
class ExplainedMistakes:
    """What a report says of the worst mistakes; without mistakes, the text says why."""

    title: str
    text: str
    mistakes: Mistakes | None = None


@dataclass(frozen=True)
class MistakeRow:
    """A misclassified image; tiles: the image and its three maps, each with a caption.

    near: the training images that it resembles most, where that is known.
    """

    id: str
    true: str
    predicted: str
    probability: float
    tiles: tuple[tuple[str, Tile], ...]
    near: Sequence[NearTile] = ()


@dataclass(frozen=True)
class LabelMistakeRow:
    """A label that is wrongly marked or missed; tiles, near: as of MistakeRow."""

    id: str
    true: str
    error: LabelError
    tiles: tuple[tuple[str, Tile], ...]
    near: Sequence[NearTile] = ()


@dataclass(frozen=True)
class _Group:
    title: str
    rows: tuple[MistakeRow, ...] | tuple[LabelMistakeRow, ...]
    remarks: tuple[str, ...]


def mistake_rows(mistakes: Mistakes, near: NearTiles = NOTHING_NEAR) -> tuple[MistakeRow, ...]:
    """Each image with what speaks for the predicted class, the true one, and their difference."""
    count = len(mistakes.ids)
    columns = (mistakes.predicted, mistakes.true, mistakes.contrast)
    maps = [colour_maps(each, DEFAULT, count) for each in columns]
    rows = []
    for row in range(count):
        drawn = [column[row] for column in maps]
        predicted, true = (target_name(each, row) for each in columns[:2])
        named = (f"Why {predicted}", f"Why {true}", f"{predicted} rather than {true}")
        tiles = [
            (f"{words}: {_strength(each, row)}", tile(np.moveaxis(one.pixels, 2, 0)))
            for words, each, one in zip(named, columns, drawn, strict=True)
        ]
        probability = float(mistakes.probabilities[row])
        image = ("The image", tile(mistakes.predicted.images[row]))
        name = str(mistakes.ids[row])
        tiles = [image, *tiles]
        rows.append(
            MistakeRow(name, true, predicted, probability, tuple(tiles), near.get(name, ()))
        )
    return tuple(rows)


def _strength(explanation: Explanation, row: int) -> str:
    """What the strongest colour of a map stands for, since each map has its own scale."""
    largest = float(np.abs(shown(explanation)[row]).max())
    return f"up to {largest:.2g}" if largest else "nothing speaks for it"


def write_mistakes_page(
    mistakes: Sequence[Mistakes] | Sequence[LabelMistakes],
    path: Path,
    *,
    scores: Sequence[Localisation] = (),
    report: str = "",
    where: str = "validation",
    near: NearTiles = NOTHING_NEAR,
) -> None:
    """Write one HTML file that opens offline: the worst mistakes, then the confused classes.

    scores: how well maps locate the objects, where masks are known. report: file name of the
    run's report, where it is in the same folder. where: which images these are. near: the training
    images that each resembles.
    """
    page = render_mistakes_page(mistakes, scores=scores, report=report, where=where, near=near)
    write_text(path, page)


def render_mistakes_page(
    mistakes: Sequence[Mistakes] | Sequence[LabelMistakes],
    *,
    scores: Sequence[Localisation] = (),
    report: str = "",
    where: str = "validation",
    near: NearTiles = NOTHING_NEAR,
) -> str:
    """The page as HTML that loads nothing from another host."""
    groups = [_group(each, near) for each in mistakes]
    several = any(isinstance(each, LabelMistakes) for each in mistakes)
    values = {"groups": groups, "several": several, "scores": scores}
    values |= {"report": report, "where": where, "has_near": bool(near)}
    return render_template("mistakes.html.jinja", values)


def _group(mistakes: Mistakes | LabelMistakes, near: NearTiles) -> _Group:
    if isinstance(mistakes, Mistakes):
        return _Group(mistakes.title, mistake_rows(mistakes, near), remarks_on(mistakes.predicted))
    rows = label_mistake_rows(mistakes, near)
    return _Group(mistakes.title, rows, remarks_on(mistakes.explanation))


def label_mistake_rows(
    mistakes: LabelMistakes, near: NearTiles = NOTHING_NEAR
) -> tuple[LabelMistakeRow, ...]:
    """Each image with what speaks for the mistaken label, and for labels that it has."""
    drawn = label_rows(mistakes.images, mistakes.explanation, mistakes.rows, mistakes.shares)
    pairs = zip(mistakes.errors, drawn, strict=True)
    return tuple(
        LabelMistakeRow(row.id, row.labels, error, row.tiles, near.get(row.id, ()))
        for error, row in pairs
    )


def remarks_on(explained: Explanation) -> tuple[str, ...]:
    """The method of the maps, and its notes and warnings."""
    method = f"Method: {METHODS[explained.method].title}."
    return method, *explained.notes, *explained.warnings
