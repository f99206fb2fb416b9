"""A gallery of labels in doubt, as one page that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from glasshouse.report.pictures import picture_uri
from glasshouse.storage import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_SMALL = 100


@dataclass(frozen=True)
class Doubt:
    """A picture uint8 ``(3, h, w)``, its label, and what is suggested; probabilities in 0..1."""

    id: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float
    picture: NDArray[np.uint8]


def write_label_page(doubts: Sequence[Doubt], path: Path, *, source: str, looked_at: int) -> None:
    """Write the page; names are shown as they are, never taken as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f}"
    rows = [(d, picture_uri(d.picture), max(d.picture.shape) <= _SMALL) for d in doubts]
    page = environment.get_template("labels.html.jinja")
    write_text(path, page.render(rows=rows, source=source, looked_at=looked_at))
