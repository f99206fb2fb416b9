"""Figures for reports and notebooks: each function returns a matplotlib Figure.

Blue stands for training and for correct predictions, orange for validation and for mistakes: a pair
that every kind of colour vision can distinguish. Shapes and labels repeat the distinction.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from glasshouse.errors import UsageError, require_type
from glasshouse.evaluation.calibration import Bin
from glasshouse.evaluation.compare import Comparison
from glasshouse.evaluation.evaluation import AnyEvaluation, Evaluation
from glasshouse.evaluation.multi_label import MultiLabelEvaluation
from glasshouse.explanation.draw.fonts import families
from glasshouse.report.theme import (
    LIGHT,
    Theme,
    legend,
    new_figure,
    percent_axis,
    shorten_name,
    style,
    theme_of,
)
from glasshouse.training.state import Epoch
from glasshouse.wording import percentage

Panel = Literal["loss", "accuracy", "rate"]
EpochRecord = Mapping[str, Any]

_EVALUATION = "an Evaluation, such as evaluate(predictions)"
_ROWS_SHOWN, _LARGEST_MATRIX = 40, 150
# Bins with fewer images are drawn faintly: their accuracy is mostly chance.
_FEW = 10


def plot_curves(
    epochs: Sequence[Epoch] | Sequence[EpochRecord],
    *,
    panels: Sequence[Panel] = ("loss", "accuracy", "rate"),
    rates: Sequence[tuple[float, float]] = (),
    accuracy: str = "accuracy",
    dark: bool = False,
) -> Figure:
    """Loss, accuracy and learning rate over the epochs.

    epochs: what `train_classifier` returns, or the lines of metrics.jsonl. rates: (completed
    epochs, learning rate) along the whole run; without it, the last learning rate of each epoch is
    shown. accuracy: what the accuracy of an epoch is called, where it is another share. Raises
    UsageError without epochs.
    """
    require_type(epochs, Sequence, "the epochs that train_classifier returns")
    if not epochs:
        raise UsageError("plot_curves: expected the records of one epoch or more, received none")
    for each in epochs:
        require_type(each, (Epoch, Mapping), "the epochs alone, which train_classifier returns")
    records = [asdict(each) if isinstance(each, Epoch) else each for each in epochs]
    theme = theme_of(dark)
    figure = new_figure(4.3 * len(panels), 3.0, theme)
    draw: dict[Panel, Callable[[Axes, Sequence[EpochRecord], Theme], None]] = {
        "loss": _draw_loss,
        "accuracy": partial(_draw_accuracy, accuracy),
        "rate": partial(_draw_rate, rates),
    }
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        draw[panel](axes, records, theme)
        style(axes, theme)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(records) == 1 and panel != "rate":
            axes.set_xticks([int(records[0]["epoch"])])
    return figure


def plot_confusion(evaluation: Evaluation, *, dark: bool = False) -> Figure:
    """The confusion matrix: rows are true classes, coloured by their share of the row."""
    require_type(evaluation, Evaluation, _EVALUATION)
    theme = theme_of(dark)
    count = len(evaluation.class_names)
    side = float(np.clip(1.6 + 0.33 * count, 4.6, 8.5))
    figure = new_figure(side, side, theme)
    axes = figure.add_subplot()
    shares = _row_shares(evaluation.confusion)
    if count > _LARGEST_MATRIX:
        _scatter_cells(axes, shares, theme)
    else:
        axes.imshow(_confusion_colours(shares, theme), interpolation="nearest", aspect="equal")
    if count <= 15:
        _write_counts(axes, evaluation.confusion, shares, theme)
    style(axes, theme)
    axes.grid(visible=False)
    _name_classes(axes, evaluation.class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    worst = _worst_share(shares)
    scale = f"deepest orange: {percentage(worst, 0)} of a class" if worst else "no mistakes"
    figure.suptitle(f"Blue: correct. Orange: wrong ({scale})", fontsize=9, color=theme.quiet)
    return figure


def plot_reliability(evaluation: AnyEvaluation, *, dark: bool = False) -> Figure:
    """Reliability diagram: accuracy against confidence, with the number of images below.

    Where images may have several labels: the share of images with a label against its probability,
    over all pairs of image and label.
    """
    require_type(evaluation, (Evaluation, MultiLabelEvaluation), _EVALUATION)
    is_single = isinstance(evaluation, Evaluation)
    theme = theme_of(dark)
    figure = new_figure(4.3, 4.7, theme)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=theme.quiet, linewidth=1, linestyle="--", label="ideal")
    if evaluation.after.temperature != 1.0:
        _draw_bins(upper, evaluation.before.bins, theme, "uncalibrated", calibrated=False)
    _draw_bins(upper, evaluation.after.bins, theme, "calibrated", calibrated=True)
    bins = evaluation.after.bins
    widths = [0.92 * (b.high - b.low) for b in bins]
    middles = [(b.low + b.high) / 2 for b in bins]
    lower.bar(middles, [b.count for b in bins], widths, color=theme.blue)
    for axes in (upper, lower):
        style(axes, theme)
    what = "accuracy" if is_single else "images with the label"
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel=what)
    percent_axis(upper.yaxis)
    what = "confidence" if is_single else "probability of the label"
    lower.set(xlabel=what, ylabel="images" if is_single else "pairs")
    percent_axis(lower.xaxis)
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    legend(figure, theme, "outside upper center", columns=3)
    return figure


def plot_classes(evaluation: Evaluation, *, dark: bool = False) -> Figure:
    """Recall of each class with its 95 % interval, lowest first, and precision as a diamond.

    With many classes, the 40 with the lowest recall.
    """
    require_type(evaluation, Evaluation, _EVALUATION)
    theme = theme_of(dark)
    known = [c for c in evaluation.per_class if c.recall is not None]
    rows = sorted(known, key=lambda c: c.recall.value if c.recall else 0.0)[:_ROWS_SHOWN]
    recalls = [c.recall for c in rows if c.recall is not None]
    figure = new_figure(6.0, 1.3 + 0.28 * len(rows), theme)
    axes = figure.add_subplot()
    values = np.array([r.value for r in recalls])
    reach = np.array([[r.value - r.low for r in recalls], [r.high - r.value for r in recalls]])
    places = np.arange(len(rows))
    axes.barh(places, values, height=0.62, color=theme.blue, alpha=0.45, label="recall")
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=theme.ink, elinewidth=1.2)
    precision = [math.nan if c.precision is None else c.precision for c in rows]
    axes.plot(precision, places, "D", markersize=5, color=theme.orange, label="precision")
    style(axes, theme)
    names = [shorten_name(c.name) for c in rows]
    axes.set_yticks(places, names, parse_math=False, fontfamily=families(names))
    axes.set(xlim=(0, 1.01), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    percent_axis(axes.xaxis)
    title = "" if len(rows) == len(known) else f"the {len(rows)} weakest of {len(known)} classes"
    axes.set_title(title, fontsize=9, color=theme.quiet)
    legend(figure, theme, "outside lower center", columns=2)
    return figure


def plot_class_differences(comparison: Comparison, *, dark: bool = False) -> Figure:
    """Difference in recall per class, second minus first, with 95 % intervals."""
    theme = theme_of(dark)
    ranked = sorted(comparison.per_class, key=lambda c: -abs(c.difference.value))[:_ROWS_SHOWN]
    rows = sorted(ranked, key=lambda c: c.difference.value)
    figure = new_figure(4.7, 1.3 + 0.28 * len(rows), theme)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        change = row.difference
        colour = theme.blue if change.value >= 0 else theme.orange
        axes.plot([100 * change.low, 100 * change.high], [place, place], color=colour)
        clear = row.p_adjusted < 0.05
        axes.plot(100 * change.value, place, "o", color=colour, markersize=6,
                  markerfacecolor=colour if clear else theme.paper)  # fmt: skip
    axes.axvline(0, color=theme.quiet, linewidth=1)
    style(axes, theme)
    names = [shorten_name(c.name) for c in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False, fontfamily=families(names))
    axes.set_xlabel(
        "recall in percentage points: left the first is better, right the second\n"
        "filled: significant after correction for all classes", fontsize=9,
    )  # fmt: skip
    return figure


def _column(epochs: Sequence[EpochRecord], key: str) -> NDArray[np.float64]:
    values = [epoch.get(key) for epoch in epochs]
    return np.array([math.nan if v is None else float(v) for v in values])


def _draw_pair(axes: Axes, epochs: Sequence[EpochRecord], what: str, theme: Theme) -> None:
    numbers = _column(epochs, "epoch")
    few = len(epochs) <= 40
    for part, colour, mark in (("train", theme.blue, "s"), ("validation", theme.orange, "o")):
        values = _column(epochs, f"{part}_{what}")
        if not np.isnan(values).all():
            axes.plot(numbers, values, marker=mark if few else "", markersize=3.5, color=colour,
                      linewidth=1.8, label="training" if part == "train" else part)  # fmt: skip


def _draw_loss(axes: Axes, epochs: Sequence[EpochRecord], theme: Theme) -> None:
    _draw_pair(axes, epochs, "loss", theme)
    axes.set_ylabel("loss (nats)")
    losses = np.concatenate([_column(epochs, f"{part}_loss") for part in ("train", "validation")])
    highest = losses[np.isfinite(losses)].max(initial=0)
    # Of the axis, not of the range of the losses, which may be too small to hold a marker.
    axes.set_ylim(0, 1.05 * float(highest) or 1.0)
    legend(axes, theme, "best")


def _draw_accuracy(name: str, axes: Axes, epochs: Sequence[EpochRecord], theme: Theme) -> None:
    _draw_pair(axes, epochs, "accuracy", theme)
    axes.set_ylabel(name)
    percent_axis(axes.yaxis)
    legend(axes, theme, "best")


def _draw_rate(
    known: Sequence[tuple[float, float]], axes: Axes, epochs: Sequence[EpochRecord], theme: Theme
) -> None:
    times, rates = np.array(known).T if known else (_column(epochs, "epoch"), _column(epochs, "lr"))
    if known:
        axes.plot(times, rates, color=theme.quiet, linewidth=1.8)
    else:
        # One learning rate is known per epoch; a line between two would be invented.
        axes.step(times, rates, where="mid", color=theme.quiet, linewidth=1.8)
    if len(times) == 1:
        axes.plot(times, rates, "o", color=theme.quiet)
    axes.set_ylabel("learning rate")
    if not known and np.nanmin(rates) > 0 and np.nanmax(rates) / np.nanmin(rates) > 30:
        axes.set_yscale("log")
        return
    axes.set_ylim(0, 1.08 * float(np.nanmax(rates)) or 1.0)


def _row_shares(cells: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(cells / np.maximum(cells.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def _worst_share(shares: NDArray[np.float64]) -> float:
    return float((shares - np.diag(np.diag(shares))).max())


def _confusion_colours(shares: NDArray[np.float64], theme: Theme) -> NDArray[np.float64]:
    right = LinearSegmentedColormap.from_list("right", [theme.paper, theme.blue])
    wrong = LinearSegmentedColormap.from_list("wrong", [theme.paper, theme.orange])
    # The square root makes rare mistakes visible, which are the point of the figure.
    scaled = np.sqrt(shares / max(_worst_share(shares), 1e-12))
    colours = wrong(np.minimum(scaled, 1.0))
    diagonal = np.arange(len(shares))
    colours[diagonal, diagonal] = right(np.diag(shares))
    return np.asarray(colours, dtype=np.float64)


def _scatter_cells(axes: Axes, shares: NDArray[np.float64], theme: Theme) -> None:
    """Cells too small to be visible as squares become dots, sized by their share."""
    rows, columns = np.nonzero(shares)
    colours = np.where(rows == columns, theme.blue, theme.orange)
    areas = np.maximum(1.5, 2 * (500 / len(shares)) ** 2 * np.sqrt(shares[rows, columns]))
    axes.scatter(columns, rows, s=areas, c=colours, linewidths=0)
    axes.set(xlim=(-0.5, len(shares) - 0.5), ylim=(len(shares) - 0.5, -0.5), aspect="equal")


def _write_counts(
    axes: Axes, cells: NDArray[np.int64], shares: NDArray[np.float64], theme: Theme
) -> None:
    colours = _confusion_colours(shares, theme)
    for row, column in zip(*np.nonzero(cells), strict=True):
        red, green, blue = colours[row, column, :3]
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
        axes.text(column, row, f"{cells[row, column]}", ha="center", va="center",
                  fontsize=8 if len(cells) <= 12 else 6.5,
                  color=LIGHT.ink if bright else LIGHT.paper)  # fmt: skip


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    count = len(class_names)
    if count > 60:  # names would overlap: positions instead
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        return
    size = 9 if count <= 20 else 180 / count
    names = [shorten_name(name) for name in class_names]
    upright = max(map(len, names)) <= max(2, 40 // count)
    axes.set_xticks(range(count), names, parse_math=False, fontsize=size,
                    rotation=0 if upright else 90, fontfamily=families(names))  # fmt: skip
    axes.set_yticks(
        range(count), names, parse_math=False, fontsize=size, fontfamily=families(names)
    )


def _draw_bins(
    axes: Axes, bins: Sequence[Bin], theme: Theme, label: str, *, calibrated: bool
) -> None:
    colour = theme.blue if calibrated else theme.orange
    known = [b for b in bins if b.count >= _FEW]
    axes.plot(
        [b.confidence for b in known if b.confidence is not None],
        [b.accuracy.value for b in known if b.accuracy is not None],
        color=colour, linewidth=1.6, marker="s" if calibrated else "o", markersize=4.5,
        markerfacecolor=colour if calibrated else theme.paper, label=label,
    )  # fmt: skip
    for b in bins if calibrated else ():
        if b.confidence is not None and b.accuracy is not None:
            axes.plot([b.confidence] * 2, [b.accuracy.low, b.accuracy.high], color=colour,
                      linewidth=1.1, alpha=1.0 if b.count >= _FEW else 0.3)  # fmt: skip
