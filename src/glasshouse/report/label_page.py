"""A gallery of labels in doubt, as one page that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.report.html import render_template, tile
from glasshouse.storage import write_text


@dataclass(frozen=True)
class Doubt:
    """An image uint8 ``(3, h, w)``, its label, and what is suggested; probabilities in 0..1."""

    id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float
    image: NDArray[np.uint8]


def write_label_page(doubts: Sequence[Doubt], path: Path, *, source: str, looked_at: int) -> None:
    """Write the page; names are shown as they are, never taken as HTML."""
    rows = [(doubt, tile(doubt.image)) for doubt in doubts]
    values = {"rows": rows, "source": source, "looked_at": looked_at}
    write_text(path, render_template("labels.html.jinja", values))
