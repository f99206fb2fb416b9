"""The map of a run's images as a page that opens offline, and for a program."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from glasshouse.evaluation.data_map import SPLIT_WORDS, DataMap, MapGroup
from glasshouse.report.html import Chart, chart, render_template
from glasshouse.report.map_plots import Colouring, colourings, plot_data_map
from glasshouse.storage import write_text
from glasshouse.wording import percentage

_TEXTS: dict[Colouring, str] = {
    "class": "The map coloured by class.",
    "predicted": "The map coloured by the answer of the network.",
    "mistake": "The map with mistakes marked.",
    "split": "The map coloured by split.",
    "confidence": "The map coloured by the probability of the answer.",
    "unusual": "The map coloured by the outlier score: higher is less like the training images.",
}


def map_as_json(found: DataMap, groups: Sequence[MapGroup]) -> dict[str, Any]:
    """What is known of a map as a whole, for a program."""
    return {
        "verdict": found.words,
        "images": len(found),
        "drawn_from": found.drawn_from,
        "splits": {
            name: int((found.split == place).sum()) for place, name in enumerate(found.splits)
        },
        "layouts": list(found.kept),
        "trustworthiness": dict(found.kept),
        "variance_of_pca": found.pca_share,
        "outlier_score": found.score,
        "seed": found.seed,
        "groups": [each.as_json() for each in groups],
    }


def map_chart(found: DataMap, colouring: Colouring = "class") -> Chart:
    """One figure of a map for light and dark pages."""
    return chart(partial(plot_data_map, found, colouring), _TEXTS[colouring])


def write_map_page(
    found: DataMap, groups: Sequence[MapGroup], path: Path, *, title: str, report: str = ""
) -> None:
    """Write one HTML file that opens offline.

    groups: those that have been named. title: of the run; report: the file name of its report next
    to this page.
    """
    values = {
        "found": found,
        "title": title,
        "report": report,
        "charts": [(name, map_chart(found, which)) for which, name in colourings(found).items()],
        "groups": groups,
        "counts": [
            (SPLIT_WORDS[name], int((found.split == place).sum()))
            for place, name in enumerate(found.splits)
        ],
        "pca": percentage(found.pca_share),
        "shows_test": "test" in found.splits,
    }
    write_text(path, render_template("map.html.jinja", values))
