"""What a notebook shows of photos that were compared with the images of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from glasshouse.report.html import render_template


@dataclass(frozen=True)
class NearCell:
    """A training image: its id, label and distance; address: a data: URI, or empty."""

    id: str
    label: str
    distance: float
    address: str


@dataclass(frozen=True)
class SimilarRow:
    """A photo, what is said of it, and the training images that it resembles."""

    id: str
    words: str
    p_words: str
    is_unknown: bool
    address: str
    near: Sequence[NearCell]


def similar_html(rows: Sequence[SimilarRow], *, left: int, side: int) -> str:
    """Rows as HTML below 200 kB, for light and dark; left: how many more there are."""
    return render_template("similar.html.jinja", {"rows": rows, "left": left, "side": side})
