"""The report of a run, and that of a comparison, as self-contained pages."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import Finding
from glasshouse.data.images import BadFile, ImageSet, images_by_id
from glasshouse.errors import UsageError
from glasshouse.evaluation.compare import Comparison, Disagreement
from glasshouse.evaluation.compare_labels import LabelComparison
from glasshouse.evaluation.data_map import DataMap
from glasshouse.evaluation.evaluation import AnyEvaluation, Evaluation
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.metrics import ClassMetrics, Mistake, worst_mistakes
from glasshouse.evaluation.multi_label import LabelError, MultiLabelEvaluation
from glasshouse.models.predict import Predictions
from glasshouse.report import plots
from glasshouse.report.encoding import data_uri
from glasshouse.report.explanation_page import ExplainedMistakes, mistake_rows, remarks_on
from glasshouse.report.finder_plots import plot_lr_curve
from glasshouse.report.html import Chart, Tile, chart, render_template, tile
from glasshouse.report.label_report import ExplainedLabels, label_charts, label_values
from glasshouse.report.map_page import map_chart
from glasshouse.report.near_tiles import NearTiles
from glasshouse.report.set_section import set_values
from glasshouse.report.unlike_section import UnlikeImages
from glasshouse.storage import write_text
from glasshouse.training.lr_curve import LrCurve
from glasshouse.wording import ACCURACY, ALL_LABELS_RIGHT, percentage, pluralize

GALLERY, CLASSES_IN_TABLE = 24, 20
# Images shown for the most confused classes, and samples of each class.
PAIRS_SHOWN, IMAGES_OF_PAIR, SAMPLES_OF_CLASS = 6, 6, 3
# Per kind of disagreement: only the first correct, only the second, both wrong.
DISAGREEMENTS = 16

Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers under headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Section:
    """An image with a title and a text, for example an explanation; png may be empty."""

    title: str
    png: bytes
    text: str


@dataclass(frozen=True)
class RunReport:
    """The content of a report as plain values; empty parts are left out.

    split_counts: images in each split. findings: of the data check. samples: a few training
    images per class. images: uint8 ``(3, h, w)`` by image id, for the mistakes. confused: mistakes
    of the most confused classes, one sequence per pair. epochs: the lines of metrics.jsonl. rates:
    (completed epochs, learning rate). finder: the range test. heads: those fitted to frozen
    features. cost, environment: names to texts. conclusions: what the metrics mean, in sentences.
    explained: the worst mistakes that are not test images, with their maps. labels_explained: the
    predicted labels of a few such images, where an image may have several. mistakes_page: the
    file name of the page of explained mistakes next to this one. shortcuts, shortcuts_page: the
    verdict on shortcuts, and the file name of its page. groups, groups_page: the same for groups
    of images that are misclassified more often. near: the training images that explained mistakes
    resemble. unlike: the validation images that are unlike all of them. data_map,
    data_map_page: the map of the images, and the file name of its page.
    """

    title: str
    evaluation: AnyEvaluation
    source: str
    split_counts: Mapping[str, int]
    command: str = ""
    recipe_toml: str = ""
    notes: Sequence[str] = ()
    bad_files: Sequence[BadFile] = ()
    findings: Sequence[Finding] = ()
    samples: Mapping[str, Sequence[NDArray[np.uint8]]] = field(default_factory=dict)
    heads: Table | None = None
    network: Table | None = None
    network_text: str = ""
    epochs: Sequence[Mapping[str, Any]] = ()
    rates: Sequence[tuple[float, float]] = ()
    finder: LrCurve | None = None
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    confused: Sequence[Sequence[Mistake]] = ()
    cost: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    explanations: Sequence[Section] = ()
    conclusions: Sequence[str] = ()
    explained: ExplainedMistakes | None = None
    labels_explained: ExplainedLabels | None = None
    mistakes_page: str = ""
    shortcuts: str = ""
    shortcuts_page: str = ""
    groups: str = ""
    groups_page: str = ""
    near: NearTiles = field(default_factory=dict)
    unlike: UnlikeImages | None = None
    data_map: DataMap | None = None
    data_map_page: str = ""


def confused_mistakes(evaluation: Evaluation, predictions: Predictions) -> list[list[Mistake]]:
    """The most confident mistakes for each of the most confused pairs of classes."""
    groups: dict[tuple[str, str], list[Mistake]] = {
        (pair.true, pair.predicted): [] for pair in evaluation.confused_pairs[:PAIRS_SHOWN]
    }
    for mistake in worst_mistakes(predictions, evaluation.mistake_count):
        group = groups.get((mistake.true, mistake.predicted))
        if group is not None and len(group) < IMAGES_OF_PAIR:
            group.append(mistake)
    return list(groups.values())


def images_of(
    mistakes: Iterable[Mistake | LabelError], images: ImageSet
) -> dict[str, NDArray[np.uint8]]:
    """The images of these mistakes by id."""
    return images_by_id(images, (mistake.id for mistake in mistakes))


def class_samples(images: ImageSet) -> dict[str, list[NDArray[np.uint8]]]:
    """The first images of each class; none where there are too many classes for a page."""
    if len(images.class_names) > CLASSES_IN_TABLE:
        return {}
    places = [images.rows_with(label) for label in range(len(images.class_names))]
    return {
        name: [np.asarray(images.pixels[place]) for place in where[:SAMPLES_OF_CLASS]]
        for name, where in zip(images.class_names, places, strict=True)
    }


def write_report(run: RunReport, path: Path) -> None:
    """Write report.html: self-contained, without scripts, for light and dark, screen and paper."""
    write_text(path, render_report(run))


def render_report(run: RunReport) -> str:
    """The page as HTML; names and paths are escaped."""
    shared = {
        "run": run,
        "evaluation": run.evaluation,
        "charts": _charts(run),
        "epoch_table": _epoch_table(run.epochs),
        "samples": {name: [tile(p) for p in images] for name, images in run.samples.items()},
        "explanations": [
            (section, data_uri(section.png, "image/png") if section.png else "")
            for section in run.explanations
        ],
    }
    if isinstance(run.evaluation, MultiLabelEvaluation):
        own = label_values(run.evaluation, run.images)
        return render_template("run-labels.html.jinja", {**shared, **own})
    return render_template("run.html.jinja", {**shared, **_class_values(run, run.evaluation)})


def _class_values(run: RunReport, evaluation: Evaluation) -> dict[str, Any]:
    """The part of the template's values for one label per image."""
    small = len(evaluation.class_names) <= CLASSES_IN_TABLE
    confused = [_gallery(group, run) for group in run.confused]
    explained = run.explained.mistakes if run.explained else None
    return {
        "classes": evaluation.per_class if small else sorted(evaluation.per_class, key=_weakness),
        "abstain_text": _abstain_text(evaluation),
        "gallery": _gallery(evaluation.mistakes[:GALLERY], run),
        "confused": [group for group in confused if group],
        "small": small,
        "explained_rows": () if explained is None else mistake_rows(explained, run.near),
        "explained_remarks": () if explained is None else remarks_on(explained.predicted),
        **set_values(evaluation),
    }


def _gallery(mistakes: Sequence[Mistake], run: RunReport) -> list[tuple[Mistake, Tile]]:
    return [
        (mistake, tile(image))
        for mistake in mistakes
        if (image := run.images.get(mistake.id)) is not None
    ]


def write_comparison(
    comparisons: Sequence[Comparison | LabelComparison], path: Path, images: Images | None = None
) -> None:
    """Write a page that compares two or more runs on the same test images.

    images: uint8 ``(3, h, w)`` by id, for which the runs disagree.
    """
    write_text(path, render_comparison(comparisons, images))


def render_comparison(
    comparisons: Sequence[Comparison | LabelComparison], images: Images | None = None
) -> str:
    """The page of write_comparison as HTML; raises UsageError without comparisons."""
    if not comparisons:
        raise UsageError("a comparison page needs one comparison or more, received none")
    known = images or {}

    def gallery(rows: Sequence[Disagreement]) -> list[tuple[Disagreement, Tile]]:
        return [
            (row, tile(image))
            for row in rows[:DISAGREEMENTS]
            if (image := known.get(row.id)) is not None
        ]

    if any(isinstance(comparison, LabelComparison) for comparison in comparisons):
        values = {"comparisons": comparisons, "gallery": gallery}
        return render_template("label_comparison.html.jinja", values)
    pairs = [
        (each, _difference_chart(each)) for each in comparisons if isinstance(each, Comparison)
    ]
    return render_template("comparison.html.jinja", {"pairs": pairs, "gallery": gallery})


def _charts(run: RunReport) -> dict[str, Chart]:
    evaluation, epochs = run.evaluation, run.epochs
    if isinstance(evaluation, MultiLabelEvaluation):
        charts = label_charts(evaluation)
    else:
        charts = _class_charts(evaluation)
    is_single = not isinstance(evaluation, MultiLabelEvaluation)
    accuracy = ACCURACY if is_single else ALL_LABELS_RIGHT
    texts: dict[plots.Panel, str] = {
        "loss": _curve_text("loss", epochs),
        "accuracy": _curve_text("accuracy", epochs, name=accuracy),
        "rate": "The learning rate over the run." if run.rates else "The learning rate per epoch.",
    }
    if epochs:
        for panel, text in texts.items():
            draw = partial(
                plots.plot_curves, epochs, panels=(panel,), rates=run.rates, accuracy=accuracy
            )
            charts[panel] = chart(draw, text)
    if run.finder is not None:
        charts["finder"] = chart(partial(plot_lr_curve, run.finder), run.finder.verdict)
    if run.data_map is not None:
        charts["map"] = map_chart(run.data_map)
        charts["map_mistakes"] = map_chart(run.data_map, "mistake")
    return charts


def _class_charts(evaluation: Evaluation) -> dict[str, Chart]:
    return {
        "confusion": chart(partial(plots.plot_confusion, evaluation), _confusion_text(evaluation)),
        "reliability": chart(
            partial(plots.plot_reliability, evaluation), _confidence_text(evaluation)
        ),
    }


def _difference_chart(comparison: Comparison) -> Chart:
    text = (
        f"Recall of {comparison.second} minus that of {comparison.first} per class, with "
        "intervals; the table has the numbers."
    )
    return chart(partial(plots.plot_class_differences, comparison), text)


def _weakness(row: ClassMetrics) -> float:
    return row.recall.value if row.recall else 2.0


def _epoch_table(epochs: Sequence[Mapping[str, Any]]) -> Table:
    headings = tuple(epochs[0]) if epochs else ()
    rows = tuple(tuple(epoch.get(key) for key in headings) for epoch in epochs)
    return Table(tuple(name.replace("_", " ") for name in headings), rows)


def _curve_text(what: str, epochs: Sequence[Mapping[str, Any]], *, name: str = "") -> str:
    """A text alternative for a curve, by its usual or another name; empty without records."""
    subject = f"Validation {what}" if name in ("", what) else f"The share of validation {name}"
    key = f"validation_{what}"
    known = [epoch for epoch in epochs if epoch.get(key) is not None]
    if not known:
        return ""
    best = (min if what == "loss" else max)(known, key=lambda epoch: float(epoch[key]))
    first, last, top = (_curve_value(what, float(e[key])) for e in (known[0], known[-1], best))
    if len(known) == 1:
        return f"{subject} is {first} in epoch {known[0]['epoch']}, the only one."
    return (
        f"{subject} goes from {first} in epoch {known[0]['epoch']} to {last} in epoch "
        f"{known[-1]['epoch']}; its best is {top} in epoch {best['epoch']}."
    )


def _curve_value(what: str, number: float) -> str:
    return f"{number:.3f}" if what == "loss" else percentage(number, 1)


def _confusion_text(evaluation: Evaluation) -> str:
    """The two most confused pairs of classes in words."""
    pairs = [
        f"{pair.true} is predicted as {pair.predicted} for {pluralize(pair.count, 'image')} "
        f"({percentage(pair.share, 1)} of its class)"
        for pair in evaluation.confused_pairs[:2]
    ]
    return f"Most often, {', and '.join(pairs)}." if pairs else "There are no mistakes."


def _confidence_text(evaluation: Evaluation) -> str:
    before, after = evaluation.before, evaluation.after
    text = f"Before calibration, {_gap(before.confidence, evaluation.accuracy)}."
    if after.temperature == 1.0:
        return f"{text} No temperature was fitted, or none was better than 1."
    return (
        f"{text} After calibration, with the logits divided by the temperature "
        f"{after.temperature:.3g} fitted on the validation split, "
        f"{_gap(after.confidence, evaluation.accuracy)}. Calibration does not change which class "
        "is predicted, and so not the accuracy."
    )


def _gap(confidence: float, accuracy: Interval) -> str:
    right = percentage(accuracy.value, 1)
    says = f"mean confidence is {percentage(confidence, 1)} and accuracy {right}"
    if accuracy.low <= confidence <= accuracy.high:
        return f"{says}, which agree within the confidence interval"
    points = 100 * abs(confidence - accuracy.value)
    kind = "overconfident" if confidence > accuracy.value else "underconfident"
    return f"{says}: {kind} by {points:.1f} percentage points"


def _abstain_text(evaluation: Evaluation) -> str:
    """The threshold with the highest accuracy that keeps at least half of the images."""
    rows = [row for row in evaluation.selective if row.threshold > 0 and row.coverage >= 0.5]
    if len(evaluation.selective) == 1:
        return "No prediction reaches the lowest threshold, 30 %."
    if not rows or evaluation.mistake_count == 0:
        return "Accuracy on the images whose confidence reaches a threshold."
    best = max(rows, key=lambda row: (row.accuracy.value, row.coverage))
    return (
        f"Rejecting predictions below {percentage(best.threshold, 0)} confidence keeps "
        f"{percentage(best.coverage, 1)} of the images, with an accuracy of "
        f"{percentage(best.accuracy.value, 1)}."
    )
