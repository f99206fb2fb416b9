"""A self-contained page of explained mistakes, next to the report of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.rows import draw_mistakes
from glasshouse.explanation.nouns import Mistakes, target_name
from glasshouse.explanation.trust.localisation import Localisation
from glasshouse.report.encoding import data_uri
from glasshouse.report.html import render_template
from glasshouse.storage import write_text


@dataclass(frozen=True)
class _Group:
    """One image of the page; text is its alternative text."""

    title: str
    image: str
    text: str
    remarks: tuple[str, ...]


def write_mistakes_page(
    mistakes: Sequence[Mistakes],
    path: Path,
    *,
    scores: Sequence[Localisation] = (),
    report: str = "",
) -> None:
    """Write one HTML file that opens offline: the worst mistakes, then the confused classes.

    scores: how well maps locate the objects, where masks are known. report: file name of the
    run's report, where it is in the same folder.
    """
    write_text(path, render_mistakes_page(mistakes, scores=scores, report=report))


def render_mistakes_page(
    mistakes: Sequence[Mistakes], *, scores: Sequence[Localisation] = (), report: str = ""
) -> str:
    """The page as HTML that loads nothing from another host."""
    values = {"groups": [_group(each) for each in mistakes], "scores": scores, "report": report}
    return render_template("mistakes.html.jinja", values)


def _group(mistakes: Mistakes) -> _Group:
    explained = mistakes.predicted
    return _Group(
        mistakes.title,
        data_uri(to_png(draw_mistakes(mistakes)), "image/png"),
        "; ".join(
            f"{name}: {target_name(explained, row)} at {probability:.0%}, true class "
            f"{target_name(mistakes.true, row)}"
            for row, (name, probability) in enumerate(
                zip(mistakes.ids.tolist(), np.asarray(mistakes.probabilities), strict=True)
            )
        ),
        (f"Method: {explained.method}.", *explained.notes, *explained.warnings),
    )
