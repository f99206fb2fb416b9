"""A self-contained gallery of images whose label may be wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.suspect_labels import SuspectLabel, SuspectPair
from glasshouse.report.html import render_template, tile
from glasshouse.report.near_tiles import NOTHING_NEAR, NearTiles
from glasshouse.storage import write_text
from glasshouse.wording import percentage


def write_label_page(  # noqa: PLR0913 - the last two are optional
    suspects: Sequence[SuspectLabel | SuspectPair],
    images: Mapping[str, NDArray[np.uint8]],
    path: Path,
    *,
    source: str,
    image_count: int,
    near: NearTiles = NOTHING_NEAR,
    doubt: str = "",
) -> None:
    """Write the page; names are escaped.

    images: uint8 ``(3, h, w)`` by id. image_count: how many images were examined. near: those that
    each resembles, by its id. doubt: why the predictions may say little, as a sentence.
    """
    rows = [
        (_caption(suspect), tile(images[suspect.id]), suspect.id, near.get(suspect.id, ()))
        for suspect in suspects
    ]
    shown = len({suspect.id for suspect in suspects})
    values = {
        "rows": rows,
        "source": source,
        "image_count": image_count,
        "shown": shown,
        "doubt": doubt,
    }
    write_text(path, render_template("labels.html.jinja", values))


def _caption(suspect: SuspectLabel | SuspectPair) -> tuple[str, str]:
    """What the image is labelled, and what the prediction says instead."""
    if isinstance(suspect, SuspectLabel):
        given = f"{suspect.label} {percentage(suspect.label_probability, 1)}"
        return given, f"{suspect.suggested} {percentage(suspect.suggested_probability, 1)}"
    if suspect.is_given:
        return suspect.label, f"only {percentage(suspect.probability, 1)}"
    return f"not {suspect.label}", f"{suspect.label} {percentage(suspect.probability, 1)}"
