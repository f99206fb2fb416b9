import math
import re
from dataclasses import replace

import numpy as np
import pytest

from glasshouse.cli.ladder import format_ladder
from glasshouse.errors import UsageError
from glasshouse.evaluation.intervals import Interval
from glasshouse.report.encoding import figure_png
from glasshouse.report.finder_plots import plot_lr_curve
from glasshouse.report.ladder_report import (
    Ladder,
    LadderRow,
    gain_text,
    ladder_chart,
    lead,
    render_ladder_page,
)
from glasshouse.report.tuning_plots import TrialRecord, search_history, search_importance
from glasshouse.training.lr_curve import read_curve
from glasshouse.wording import ACCURACY, PRECISION
from tests.report.test_plots import texts
from tests.training.test_finder import LRS, X, textbook


def row(name: str, value: float, gain: tuple[float, float] | None) -> LadderRow:
    found = None if gain is None else Interval(sum(gain) / 2, *gain)
    scores = (value - 0.01, value + 0.01)
    return LadderRow(
        name, "<b>change</b>", "r", scores, Interval(value, value - 0.02, value + 0.02),
        found, 3.2,
    )  # fmt: skip


ROWS = (
    row("first", 0.7, None),
    row("better", 0.75, (0.02, 0.08)),
    row("alike", 0.751, (-0.01, 0.012)),
    row("worse", 0.6, (-0.2, -0.1)),
    LadderRow("broken", "c", "r", (), None, None, 0.0, "the loss became nan"),
)


def test_the_finder_curve_marks_the_suggestion() -> None:
    curve = read_curve(LRS, np.stack([textbook(), textbook(-2.8)]), "valley", guess_loss=2.3)
    axes = plot_lr_curve(curve).axes[0]
    marked = [line for line in axes.lines if str(line.get_label()).startswith("valley")]
    assert marked[0].get_xdata()[0] == pytest.approx(curve.suggestion)  # type: ignore[index]
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[1] < 4  # the explosion would hide the valley
    figure_png(plot_lr_curve(curve, dark=True), dpi=40)


def test_a_curve_without_a_valley_can_be_drawn() -> None:
    for losses in (np.full_like(X, 2.3), np.full_like(X, math.nan)):
        figure = plot_lr_curve(read_curve(LRS, losses[None], "valley"))
        assert "No usable valley" in figure.axes[0].get_title(loc="left")
        figure_png(figure, dpi=40)


def test_verdicts_follow_the_intervals() -> None:
    assert [r.verdict for r in ROWS] == ["first", "gain", "within noise", "loss", "failed"]
    assert gain_text(ROWS[1]) == "+5.00 ± 3.00"
    assert gain_text(ROWS[2]).endswith("within noise")


def test_the_ladder_chart_has_one_line_per_finished_step() -> None:
    figure = ladder_chart(ROWS)
    shown = texts(figure)
    assert "better" in shown
    assert "broken" not in shown
    assert "+5.00 ± 3.00" in shown
    with pytest.raises(UsageError, match="received none"):
        ladder_chart(ROWS[4:])


def test_the_ladder_page_says_what_is_significant_and_escapes_names() -> None:
    ladder = Ladder("<source>", 10, 2, 10000, ROWS)
    page = render_ladder_page(ladder)
    assert "&lt;b&gt;change&lt;/b&gt;" in page
    assert "<b>change" not in page
    assert "the loss became nan" in page
    assert "Significant gains: better. Significant losses: worse. Within noise: alike." in lead(
        ladder
    )
    assert "'alike' with 75.10 %" in lead(ladder)


@pytest.mark.parametrize("metric", [ACCURACY, PRECISION])
def test_the_table_of_a_ladder_is_aligned(metric: str) -> None:
    ladder = Ladder("digits", 10, 2, 10000, tuple(replace(r, metric=metric) for r in ROWS))
    heading, first, better, *_ = format_ladder(ladder).splitlines()
    end = heading.index("seconds") + len("seconds")
    assert [line[end - 3 : end + 2] for line in (first, better)] == ["3.2  "] * 2
    assert heading.index("gain") == first.index("baseline") == better.index("+")


def test_gains_of_mean_average_precision_are_numbers() -> None:
    rows = tuple(replace(r, metric=PRECISION) for r in ROWS)
    assert gain_text(rows[1]) == "+0.050 ± 0.030"
    # Each cell also has the name of its column, for phones.
    page = re.sub(r"<td [^>]*>", "<td>", render_ladder_page(Ladder("digits", 10, 2, 10000, rows)))
    assert "+0.050 ± 0.030" in page and "0.750</td><td>0.730 to 0.770" in page
    assert "points" not in page and "%</td>" not in page
    assert "'alike' with 0.751 (0.731 to 0.771)" in page.replace("&#39;", "'")


def trial(number: int, state: str, value: float | None) -> TrialRecord:
    return TrialRecord(number, state, value, {"train.lr": 0.1}, 3)


def test_the_history_rises_with_complete_trials_only() -> None:
    states = [("complete", 0.5), ("pruned", 0.9), ("complete", 0.4), ("failed", None),
              ("complete", 0.6)]  # fmt: skip
    figure = search_history([trial(n, *state) for n, state in enumerate(states)])
    best = figure.axes[0].lines[-1]
    assert list(best.get_ydata()) == [0.5, 0.5, 0.5, 0.6]  # type: ignore[arg-type]
    figure_png(figure, dpi=40)
    with pytest.raises(UsageError, match="received none"):
        search_history([trial(0, "failed", None)])


def test_importance_has_the_largest_on_top() -> None:
    axes = search_importance({"a": 0.1, "b": 0.9}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    with pytest.raises(UsageError, match="received none"):
        search_importance({})
