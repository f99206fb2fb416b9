"""The ladder as a chart and a page: the gain of each step, and whether it is significant."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glasshouse.errors import UsageError
from glasshouse.evaluation.intervals import Interval
from glasshouse.report.html import chart, render_template
from glasshouse.report.theme import Theme, new_figure, percent_axis, shorten_name, style, theme_of
from glasshouse.storage import write_text
from glasshouse.wording import ACCURACY, percentage, pluralize

Verdict = Literal["first", "gain", "loss", "within noise", "failed"]


@dataclass(frozen=True)
class LadderRow:
    """One step: the mean test score over the seeds, and the gain over the previous step.

    metric: what scores are: accuracy, or mean average precision where an image may have several
    labels. score, gain: 95 % intervals, generalised to other seeds and images; None where training
    failed (problem says why), and gain is None for the first step. seconds: of training per seed.
    """

    name: str
    change: str
    recipe: str
    scores: tuple[float, ...]
    score: Interval | None
    gain: Interval | None
    seconds: float
    problem: str = ""
    metric: str = ACCURACY

    @property
    def verdict(self) -> Verdict:
        """Whether the interval of the gain excludes 0, and on which side."""
        if self.score is None:
            return "failed"
        if self.gain is None:
            return "first"
        if self.gain.low > 0:
            return "gain"
        return "loss" if self.gain.high < 0 else "within noise"


@dataclass(frozen=True)
class Ladder:
    """All steps so far, under one budget of epochs."""

    source: str
    epochs: int
    seeds: int
    image_count: int
    rows: tuple[LadderRow, ...]


def ladder_chart(rows: Sequence[LadderRow], *, dark: bool = False) -> Figure:
    """The test score of each step with its interval, first step at the top, and its gain.

    Filled marks: the difference from the previous step is significant; hollow: it is not.
    """
    shown = [row for row in rows if row.score is not None]
    if not shown:
        raise UsageError("ladder_chart: expected one finished step or more, received none")
    theme = theme_of(dark)
    figure = new_figure(4.7, 0.9 + 0.5 * len(shown), theme)
    axes = figure.add_subplot()
    for place, row in enumerate(shown):
        _draw_step(axes, row, place, theme)
    style(axes, theme)
    axes.grid(visible=False, axis="y")
    axes.set_yticks([])
    axes.set_ylim(len(shown) - 0.6, -0.8)
    axes.set_xlim(*_span([value for row in shown for value in row.scores]))
    if shown[0].metric == ACCURACY:
        percent_axis(axes.xaxis)
    axes.set_xlabel(f"test {shown[0].metric}, mean over the seeds and 95 % interval")
    return figure


def _span(scores: Sequence[float]) -> tuple[float, float]:
    """Axis limits from the measurements; intervals over few seeds may extend beyond them."""
    low, high = min(scores), max(scores)
    room = max(0.4 * (high - low), 0.02)
    return max(0.0, low - room), min(1.0, high + room)


def _draw_step(axes: Axes, row: LadderRow, place: int, theme: Theme) -> None:
    assert row.score is not None
    clear = row.verdict != "within noise"
    colour = theme.orange if row.verdict == "loss" else theme.blue
    axes.plot([row.score.low, row.score.high], [place, place], color=colour, linewidth=1.6)
    axes.plot(row.scores, [place] * len(row.scores), "|", color=colour, markersize=7)
    axes.plot([row.score.value], [place], "o", color=colour, markersize=8,
              markerfacecolor=colour if clear else theme.paper)  # fmt: skip
    # Above the interval and not next to it, so that the chart can be read on a phone.
    name, text = shorten_name(row.name, 30), f"{gain_text(row)}  ·  {seconds_text(row)} s"
    ink = theme.ink if clear else theme.quiet
    for x, side, words in ((0.0, "left", name), (1.0, "right", text)):
        axes.annotate(words, (x, place - 0.42), xycoords=("axes fraction", "data"), ha=side,
                      va="center", fontsize=9, color=ink, parse_math=False)  # fmt: skip


def seconds_text(row: LadderRow) -> str:
    """Whole seconds, with a decimal below ten."""
    return f"{row.seconds:,.0f}" if row.seconds >= 10 else f"{row.seconds:.1f}"


def gain_text(row: LadderRow) -> str:
    """The gain plus or minus half its interval, or why there is none.

    In percentage points of accuracy; as a number where scores are mean average precisions.
    """
    if row.verdict == "failed":
        return "failed"
    if row.gain is None:
        return "baseline"
    half = (row.gain.high - row.gain.low) / 2
    noise = ", within noise" if row.verdict == "within noise" else ""
    if row.metric == ACCURACY:
        return f"{100 * row.gain.value:+.2f} ± {100 * half:.2f}{noise}"
    return f"{row.gain.value:+.3f} ± {half:.3f}{noise}"


def interval_text(row: LadderRow) -> tuple[str, str]:
    """The score of a step and its interval, both as text."""
    assert row.score is not None
    value, low, high = row.score.value, row.score.low, row.score.high
    if row.metric == ACCURACY:
        return percentage(value, 2), f"{100 * low:.2f} to {percentage(high, 2)}"
    return f"{value:.3f}", f"{low:.3f} to {high:.3f}"


def write_ladder_page(ladder: Ladder, path: Path) -> None:
    """Write the self-contained page."""
    write_text(path, render_ladder_page(ladder))


def render_ladder_page(ladder: Ladder) -> str:
    """The page as HTML; raises UsageError before the first step has finished."""
    text = lead(ladder)
    values = {
        "ladder": ladder,
        "lead": text,
        "chart": chart(partial(ladder_chart, ladder.rows), text),
        "gain_text": gain_text,
        "interval_text": interval_text,
        "seconds_text": seconds_text,
        "metric": metric_of(ladder),
        "gain_heading": gain_heading(ladder),
    }
    return render_template("ladder.html.jinja", values)


def metric_of(ladder: Ladder) -> str:
    """What the scores of a ladder are; steps that failed do not know."""
    return next((row.metric for row in ladder.rows if row.score is not None), ACCURACY)


def gain_heading(ladder: Ladder) -> str:
    """The heading of the gains, with their unit where they have one."""
    return "gain in points" if metric_of(ladder) == ACCURACY else "gain"


def lead(ladder: Ladder) -> str:
    """The ladder summarised in a few sentences."""
    done = [row for row in ladder.rows if row.score is not None]
    best = max(done, key=lambda row: row.score.value if row.score else 0.0)
    score, interval = interval_text(best)
    kinds: tuple[tuple[Verdict, str], ...] = (
        ("gain", "Significant gains"),
        ("loss", "Significant losses"),
        ("within noise", "Within noise"),
    )
    text = f"The best of {pluralize(len(done), 'step')} is '{best.name}' with {score} ({interval})."
    for verdict, heading in kinds:
        names = [row.name for row in done if row.verdict == verdict]
        text += f" {heading}: {', '.join(names)}." if names else ""
    return text
