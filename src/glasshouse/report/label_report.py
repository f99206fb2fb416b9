"""What the report of a run shows where images may have several labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.evaluation.multi_label import LabelError, LabelMetrics, MultiLabelEvaluation
from glasshouse.explanation.draw.overlay import DEFAULT, colour_maps
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, class_name_at
from glasshouse.report.html import Chart, Tile, chart, tile
from glasshouse.report.label_plots import plot_labels
from glasshouse.report.plots import plot_reliability
from glasshouse.wording import percentage, pluralize

_GALLERY = 24


@dataclass(frozen=True)
class LabelRow:
    """An image with its labels; tiles: the image and a map for each predicted label."""

    id: str
    labels: str
    tiles: tuple[tuple[str, Tile], ...]


@dataclass(frozen=True)
class ExplainedLabels:
    """What a report says of the predicted labels of a few images; without rows, why."""

    text: str
    rows: tuple[LabelRow, ...] = ()


def label_rows(
    images: ImageSet,
    explanation: Explanation,
    rows: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> tuple[LabelRow, ...]:
    """One row per image of the maps of its labels.

    rows ``(m,)``: the image of each of the m maps. shares ``(n, k)``: probabilities of the images.
    """
    drawn = colour_maps(explanation, DEFAULT, len(rows))
    is_empty = [not values.any() for values in shown(explanation)]
    found = []
    for row in range(len(images)):
        tiles = [("The image", tile(images.pixels[row]))]
        for place in np.flatnonzero(rows == row):
            label = int(explanation.targets[place])
            name = class_name_at(explanation.class_names, label)
            words = f"Why {name} ({percentage(float(shares[row, label]))})"
            words += ": nothing speaks for it" if is_empty[place] else ""
            tiles.append((words, tile(np.moveaxis(drawn[place].pixels, 2, 0))))
        found.append(LabelRow(str(images.ids[row]), images.label_text(row), tuple(tiles)))
    return tuple(found)


def label_charts(evaluation: MultiLabelEvaluation) -> dict[str, Chart]:
    """The charts of the labels: average precision and F1, and calibration."""
    text = (
        "The share of images with a label against its mean probability, before and after "
        "calibration."
    )
    return {
        "labels": chart(partial(plot_labels, evaluation), "Average precision and F1 by label."),
        "reliability": chart(partial(plot_reliability, evaluation), text),
    }


def label_conclusions(evaluation: MultiLabelEvaluation) -> tuple[str, ...]:
    """What the metrics mean, in sentences: never more than was measured."""
    found = evaluation.mean_average_precision
    sentences = [
        f"The mean average precision is {found.value:.3f}, between {found.low:.3f} and "
        f"{found.high:.3f} with 95 % confidence; guessing would give {evaluation.chance:.3f}.",
        _against_baseline(evaluation),
    ]
    known = [row for row in evaluation.per_label if row.average_precision is not None]
    weakest = min(known, key=_precision_of)
    if len(known) > 1:
        sentences.append(
            f"The weakest label is {weakest.name}, with an average precision of "
            f"{_precision_of(weakest):.3f} on {pluralize(weakest.support, 'image')} that have it."
        )
    silent = [row.name for row in known if not row.predicted]
    if silent:
        sentences.append(f"Never predicted at its threshold: {', '.join(silent[:5])}.")
    return tuple(sentences)


def label_values(
    evaluation: MultiLabelEvaluation, images: Mapping[str, NDArray[np.uint8]]
) -> dict[str, Any]:
    """The part of a report's template that differs from that of one label per image."""
    few = len(evaluation.class_names) <= _GALLERY
    ranked = sorted(evaluation.per_label, key=_precision_of)
    return {
        "labels": evaluation.per_label if few else ranked,
        "label_gallery": _gallery(evaluation.errors, images),
        "small": few,
    }


def _gallery(
    errors: Sequence[LabelError], images: Mapping[str, NDArray[np.uint8]]
) -> list[tuple[LabelError, Tile]]:
    shown = [error for error in errors if error.id in images][:_GALLERY]
    return [(error, tile(images[error.id])) for error in shown]


def _precision_of(row: LabelMetrics) -> float:
    return 2.0 if row.average_precision is None else row.average_precision.value


def _against_baseline(evaluation: MultiLabelEvaluation) -> str:
    accuracy, baseline = evaluation.accuracy, evaluation.commonest_share
    says = (
        f"All labels are right for {percentage(accuracy.value)} of the images; always predicting "
        f"the most frequent combination would get {percentage(baseline)} right"
    )
    if accuracy.low <= baseline <= accuracy.high:
        return f"{says}, which is within the confidence interval."
    return f"{says}."
