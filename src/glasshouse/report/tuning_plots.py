"""Plots of a hyperparameter search: its history, and which keys mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glasshouse.errors import UsageError
from glasshouse.report.theme import legend, new_figure, percent_axis, style, theme_of
from glasshouse.wording import ACCURACY


@dataclass(frozen=True)
class TrialRecord:
    """One trial; state: complete, pruned, failed, lost (its process died), running or waiting.

    value: the validation score; for a pruned trial the last one reached. values: of the keys that
    vary. problem: why a trial failed. metric: what the score is.
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, Any]
    epochs: int
    problem: str = ""
    metric: str = ACCURACY


def search_history(trials: Sequence[TrialRecord], *, dark: bool = False) -> Figure:
    """The validation score of each trial, pruned ones hollow, and the best so far."""
    known = [trial for trial in trials if trial.value is not None]
    if not known:
        raise UsageError("search_history: expected one trial with a value or more, received none")
    theme = theme_of(dark)
    figure = new_figure(6.4, 3.6, theme)
    axes = figure.add_subplot()
    for state, face in (("complete", theme.blue), ("pruned", theme.paper)):
        chosen = [(t.number, t.value or 0.0) for t in known if t.state == state]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "o", markersize=5.5,
                      color=theme.blue, markerfacecolor=face, label=state)  # fmt: skip
    best, places, heights = 0.0, [], []
    for trial in known:
        if trial.state == "complete" and trial.value is not None and trial.value > best:
            best = trial.value
        if best:
            places.append(trial.number)
            heights.append(best)
    axes.step(places, heights, where="post", color=theme.orange, linewidth=1.6, label="best so far")
    style(axes, theme)
    metric = known[0].metric
    axes.set(xlabel="trial", ylabel=f"validation {metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric == ACCURACY:
        percent_axis(axes.yaxis)
    legend(figure, theme, "outside lower center", columns=3)
    return figure


def search_importance(
    importance: Mapping[str, float], *, metric: str = ACCURACY, dark: bool = False
) -> Figure:
    """The share of the variance between trials that each key explains, largest at the top."""
    if not importance:
        raise UsageError("search_importance: expected one key or more, received none")
    theme = theme_of(dark)
    rows = sorted(importance.items(), key=lambda item: item[1])
    figure = new_figure(6.4, 1.1 + 0.36 * len(rows), theme)
    axes = figure.add_subplot()
    axes.barh([key for key, _ in rows], [share for _, share in rows], color=theme.blue, height=0.6)
    style(axes, theme)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)
    percent_axis(axes.xaxis)
    axes.set_xlabel(f"share of the variance of validation {metric}")
    return figure
