"""The plot of the metrics of each label."""

from collections.abc import Iterable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from glasshouse.evaluation.multi_label import MultiLabelEvaluation, evaluate_labels
from glasshouse.models.outputs import Predictions
from glasshouse.report import label_plots
from glasshouse.report.label_plots import plot_labels


def evaluated(names: tuple[str, ...], count: int = 60) -> MultiLabelEvaluation:
    random = np.random.default_rng(0)
    truth = random.random((count, len(names))) < 0.4
    logits = random.normal(size=truth.shape) + np.linspace(-2, 2, len(names)) * (2 * truth - 1)
    ids = np.array([str(number) for number in range(count)])
    thresholds = (0.5,) * len(names)
    return evaluate_labels(
        Predictions(logits.astype(np.float32), truth, ids, names, 1.0, thresholds)
    )


def widths(axes: Axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]


def test_bars_are_the_average_precision_of_each_label_lowest_first() -> None:
    found = evaluated(("bad", "fair", "good"))
    axes = plot_labels(found).axes[0]
    values = sorted(row.average_precision.value for row in found.per_label if row.average_precision)
    assert widths(axes) == values
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["bad", "fair", "good"]
    scores = {row.name: row.f1.value for row in found.per_label if row.f1}
    diamonds = next(line for line in axes.lines if line.get_marker() == "D")
    known = [scores[name] for name in ("bad", "fair", "good")]
    assert np.asarray(diamonds.get_xdata()).tolist() == known


def test_of_many_labels_those_with_the_lowest_average_precision_are_shown() -> None:
    found = evaluated(tuple(f"label {number}" for number in range(50)))
    axes = plot_labels(found).axes[0]
    values = sorted(row.average_precision.value for row in found.per_label if row.average_precision)
    assert widths(axes) == values[:40]
    assert axes.get_title() == "the 40 weakest of 50 labels"


def test_labels_are_written_in_fonts_that_have_their_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def families(texts: Iterable[str]) -> list[str]:
        asked.extend(texts)
        return ["DejaVu Serif"]

    monkeypatch.setattr(label_plots, "families", families)
    axes = plot_labels(evaluated(("кот", "пёс"))).axes[0]
    assert sorted(asked) == ["кот", "пёс"]
    assert [tick.get_fontfamily() for tick in axes.get_yticklabels()] == [["DejaVu Serif"]] * 2
