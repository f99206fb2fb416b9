"""A self-contained gallery of images whose label may be wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.suspect_labels import SuspectLabel
from glasshouse.report.html import render_template, tile
from glasshouse.storage import write_text


def write_label_page(
    suspects: Sequence[SuspectLabel],
    images: Mapping[str, NDArray[np.uint8]],
    path: Path,
    *,
    source: str,
    image_count: int,
) -> None:
    """Write the page; names are escaped.

    images: uint8 ``(3, h, w)`` by id. image_count: how many images were examined.
    """
    rows = [(suspect, tile(images[suspect.id])) for suspect in suspects]
    values = {"rows": rows, "source": source, "image_count": image_count}
    write_text(path, render_template("labels.html.jinja", values))
