"""One page that tells the whole of a run, in a single file that needs nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import Finding
from glasshouse.data.images import BadFile, ImageSet
from glasshouse.errors import UsageError
from glasshouse.evaluation.compare import Comparison, Disagreement
from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.metrics import ClassFigures, Mistake, worst_mistakes
from glasshouse.models.predict import Predictions
from glasshouse.report import plots
from glasshouse.report.encoding import data_uri
from glasshouse.report.finder_plots import plot_lr_curve
from glasshouse.report.html import Chart, Tile, chart, render_template, tile
from glasshouse.storage import write_text
from glasshouse.training.lr_curve import LrCurve

GALLERY, CLASSES_IN_TABLE = 24, 20
# Images beside the most confused pairs, and samples of each class.
PAIRS_SHOWN, IMAGES_OF_PAIR, SAMPLES_OF_CLASS = 6, 6, 3
# Of each kind: only the one is right, only the other, both wrong.
DISAGREEMENTS = 16

Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Table:
    """Rows of plain texts and numbers under headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Section:
    """An image with its title and what it says, for example an explanation; png may be empty."""

    title: str
    png: bytes
    text: str


@dataclass(frozen=True)
class RunReport:
    """What a page is made of, as plain values; what is empty is left out.

    split_counts: images in each split. findings: of the check. samples: some training images
    of each class. images: uint8 ``(3, h, w)`` by image id, for the mistakes. confused: mistakes
    of the most confused pairs, a sequence each. epochs: the lines of metrics.jsonl. rates: (epochs
    passed, learning rate). finder: the range test. heads: those that were fitted to frozen
    features. cost, environment: names to texts. mistakes_page: the name of the page of explained
    mistakes beside this one.
    """

    title: str
    evaluation: Evaluation
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
    mistakes_page: str = ""


def confused_mistakes(evaluation: Evaluation, predictions: Predictions) -> list[list[Mistake]]:
    """The most confident mistakes of each of the most confused pairs."""
    groups: dict[tuple[str, str], list[Mistake]] = {
        (pair.true, pair.predicted): [] for pair in evaluation.confused_pairs[:PAIRS_SHOWN]
    }
    for mistake in worst_mistakes(predictions, evaluation.mistake_count):
        group = groups.get((mistake.true, mistake.predicted))
        if group is not None and len(group) < IMAGES_OF_PAIR:
            group.append(mistake)
    return list(groups.values())


def images_of(mistakes: Iterable[Mistake], images: ImageSet) -> dict[str, NDArray[np.uint8]]:
    """The images of these mistakes by id."""
    place = {image: position for position, image in enumerate(images.ids.tolist())}
    ids = {mistake.id for mistake in mistakes} & set(place)
    return {image: np.asarray(images.pixels[place[image]]) for image in ids}


def class_samples(images: ImageSet) -> dict[str, list[NDArray[np.uint8]]]:
    """The first images of each class; none where there are more classes than fit a page."""
    if len(images.class_names) > CLASSES_IN_TABLE:
        return {}
    places = [np.flatnonzero(images.labels == label) for label in range(len(images.class_names))]
    return {
        name: [np.asarray(images.pixels[place]) for place in where[:SAMPLES_OF_CLASS]]
        for name, where in zip(images.class_names, places, strict=True)
    }


def write_report(run: RunReport, path: Path) -> None:
    """Write report.html: self-contained, without scripts, for light and dark, screen and paper."""
    write_text(path, render_report(run))


def render_report(run: RunReport) -> str:
    """The page as text; names and paths are shown as they are, never taken as HTML."""
    figures = run.evaluation
    small = len(figures.class_names) <= CLASSES_IN_TABLE
    confused = [_gallery(group, run) for group in run.confused]
    values = {
        "run": run,
        "figures": figures,
        "charts": _charts(run),
        "classes": figures.per_class if small else sorted(figures.per_class, key=_weakness),
        "epoch_table": _epoch_table(run.epochs),
        "abstain_text": _abstain_text(figures),
        "gallery": _gallery(figures.mistakes[:GALLERY], run),
        "confused": [group for group in confused if group],
        "samples": {name: [tile(p) for p in images] for name, images in run.samples.items()},
        "small": small,
        "explanations": [
            (section, data_uri(section.png, "image/png") if section.png else "")
            for section in run.explanations
        ],
    }
    return render_template("run.html.jinja", values)


def _gallery(mistakes: Sequence[Mistake], run: RunReport) -> list[tuple[Mistake, Tile]]:
    return [
        (mistake, tile(image))
        for mistake in mistakes
        if (image := run.images.get(mistake.id)) is not None
    ]


def write_comparison(
    comparisons: Sequence[Comparison], path: Path, images: Images | None = None
) -> None:
    """Write one page on two or more runs that were measured on the same images.

    images: uint8 ``(3, h, w)`` by id, of those on which the runs disagree.
    """
    write_text(path, render_comparison(comparisons, images))


def render_comparison(comparisons: Sequence[Comparison], images: Images | None = None) -> str:
    """The page of write_comparison as text; raises UsageError without comparisons."""
    if not comparisons:
        raise UsageError("a comparison page needs one comparison or more, received none")
    known = images or {}

    def gallery(rows: Sequence[Disagreement]) -> list[tuple[Disagreement, Tile]]:
        return [
            (row, tile(image))
            for row in rows[:DISAGREEMENTS]
            if (image := known.get(row.id)) is not None
        ]

    pairs = [(comparison, _difference_chart(comparison)) for comparison in comparisons]
    return render_template("comparison.html.jinja", {"pairs": pairs, "gallery": gallery})


def _charts(run: RunReport) -> dict[str, Chart]:
    figures, epochs = run.evaluation, run.epochs
    charts = {
        "confusion": chart(partial(plots.plot_confusion, figures), _confusion_text(figures)),
        "reliability": chart(partial(plots.plot_reliability, figures), _confidence_text(figures)),
    }
    texts: dict[plots.Panel, str] = {
        "loss": _curve_text("loss", epochs),
        "accuracy": _curve_text("accuracy", epochs),
        "rate": "The learning rate along the run." if run.rates else "The rate of each epoch.",
    }
    if epochs:
        for panel, text in texts.items():
            draw = partial(plots.plot_curves, epochs, panels=(panel,), rates=run.rates)
            charts[panel] = chart(draw, text)
    if run.finder is not None:
        charts["finder"] = chart(partial(plot_lr_curve, run.finder), run.finder.verdict)
    return charts


def _difference_chart(comparison: Comparison) -> Chart:
    text = (
        f"Recall of {comparison.second} minus that of {comparison.first}, class by class, with "
        "intervals; the table has the figures."
    )
    return chart(partial(plots.plot_class_differences, comparison), text)


def _weakness(row: ClassFigures) -> float:
    return row.recall.value if row.recall else 2.0


def _epoch_table(epochs: Sequence[Mapping[str, Any]]) -> Table:
    headings = tuple(epochs[0]) if epochs else ()
    rows = tuple(tuple(epoch.get(key) for key in headings) for epoch in epochs)
    return Table(tuple(name.replace("_", " ") for name in headings), rows)


def _curve_text(what: str, epochs: Sequence[Mapping[str, Any]]) -> str:
    """What a curve shows, in words; empty where nothing was recorded."""
    key = f"validation_{what}"
    known = [epoch for epoch in epochs if epoch.get(key) is not None]
    if not known:
        return ""
    best = (min if what == "loss" else max)(known, key=lambda epoch: float(epoch[key]))
    first, last, top = (_curve_value(what, float(e[key])) for e in (known[0], known[-1], best))
    if len(known) == 1:
        return f"Validation {what} is {first} in epoch {known[0]['epoch']}, the only one."
    return (
        f"Validation {what} goes from {first} in epoch {known[0]['epoch']} to {last} in epoch "
        f"{known[-1]['epoch']}; its best is {top} in epoch {best['epoch']}."
    )


def _curve_value(what: str, number: float) -> str:
    return f"{number:.3f}" if what == "loss" else f"{100 * number:.1f} %"


def _confusion_text(figures: Evaluation) -> str:
    """The two most confused pairs in words."""
    pairs = [
        f"{pair.true} is taken for {pair.predicted} on {pair.count:,} images "
        f"({100 * pair.share:.1f} % of its class)"
        for pair in figures.confused_pairs[:2]
    ]
    return f"Most often, {', and '.join(pairs)}." if pairs else "There is no mistake."


def _confidence_text(figures: Evaluation) -> str:
    before, after = figures.before, figures.after
    text = f"As trained, {_gap(before.confidence, figures.accuracy)}."
    if after.temperature == 1.0:
        return f"{text} No temperature was fitted, or none was better than 1."
    return (
        f"{text} With the logits divided by {after.temperature:.3g}, the temperature fitted on "
        f"the validation images, {_gap(after.confidence, figures.accuracy)}. "
        "The order of the classes, and so the accuracy, stays as it is."
    )


def _gap(confidence: float, accuracy: Interval) -> str:
    says = (
        f"it says {100 * confidence:.1f} % on average and is right on {100 * accuracy.value:.1f} %"
    )
    if accuracy.low <= confidence <= accuracy.high:
        return f"{says}: they agree within the interval"
    points = 100 * abs(confidence - accuracy.value)
    return f"{says}: {points:.1f} points too {'sure' if confidence > accuracy.value else 'modest'}"


def _abstain_text(figures: Evaluation) -> str:
    """The row that gains most without leaving out more than half of the images."""
    rows = [row for row in figures.selective if row.threshold > 0 and row.coverage >= 0.5]
    if len(figures.selective) == 1:
        return "No answer is sure enough for the lowest of the usual thresholds, 30 %."
    if not rows or figures.mistake_count == 0:
        return "How often it is right on the images on which it is sure enough."
    best = max(rows, key=lambda row: (row.accuracy.value, row.coverage))
    return (
        f"Abstaining below a probability of {100 * best.threshold:.0f} %, it answers on "
        f"{100 * best.coverage:.1f} % of the images and is right on "
        f"{100 * best.accuracy.value:.1f} % of these."
    )
