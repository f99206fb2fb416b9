"""Loss, accuracy and learning rate of a run as three charts that follow its training."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from glasshouse.serving.pages.charts import BLUE, ORANGE, Options, echart, line, lines
from glasshouse.serving.pages.parts import box, panel, text
from glasshouse.serving.pages.words import epoch_accuracy
from glasshouse.serving.run_watch import Snapshot

_CHARTS = ("loss", "accuracy", "learning rate")
Epochs = Sequence[dict[str, Any]]


def chart_titles(metric: str) -> dict[str, str]:
    """The headings of the three charts of a run that is judged by this metric."""
    accuracy = f"{epoch_accuracy(metric)}, %"
    titles = ("Loss, nats", accuracy, "Learning rate")
    return dict(zip(_CHARTS, titles, strict=True))


def show_curves(metric: str) -> Callable[[Snapshot], None]:
    """Add the panel of curves, still empty; returns what shows it once there are points.

    The charts are marked with data-live. Their points arrive as messages that are made once for all
    viewers; as options of the charts, NiceGUI would serialise every point for every viewer.
    """
    with panel("Training", classes="gh-curves") as section, box("gh-three"):
        for name, title in chart_titles(metric).items():
            with box():
                text(title, "h3")
                element = echart(lines([], x="epoch"), f"{title} by epoch")
                element.props["data-live"] = name

    def update(now: Snapshot) -> None:
        section.set_visibility(now.has_points)

    return update


@lru_cache(maxsize=16)
def curve_series(now: Snapshot | None) -> dict[str, list[Options]]:
    """The lines of the three charts for a run at one moment; None: no lines yet."""
    if now is None:
        return {name: [] for name in _CHARTS}
    epochs = now.epochs
    charts = {
        "loss": [
            *_steps(now, 1, 1.0),
            line("training", _column(epochs, "train_loss"), BLUE),
            line("validation", _column(epochs, "validation_loss"), ORANGE),
        ],
        "accuracy": [
            *_steps(now, 2, 100.0),
            line("training", _column(epochs, "train_accuracy", 100.0), BLUE),
            line("validation", _column(epochs, "validation_accuracy", 100.0), ORANGE),
        ],
        "learning rate": [line("learning rate", _rates(now), BLUE)],
    }
    return {name: [one for one in series if one["data"]] for name, series in charts.items()}


def _steps(now: Snapshot, column: int, factor: float) -> list[Options]:
    # A run of less than a second has one point or two, whose line would hide what happened.
    if len(now.curve) < 2 or len(now.curve) <= len(now.epochs):
        return []
    points = [(round(row[0], 3), round(factor * row[column], 4)) for row in now.curve]
    return [line("training, per step", points, BLUE, faint=True)]


def _column(epochs: Epochs, key: str, factor: float = 1.0) -> list[tuple[float, float]]:
    return [(float(e["epoch"]), round(factor * float(e[key]), 5)) for e in epochs]


def _rates(now: Snapshot) -> list[tuple[float, float]]:
    if len(now.curve) > len(now.epochs):
        return [(round(row[0], 3), float(f"{row[3]:.4g}")) for row in now.curve]
    return [(float(e["epoch"]), float(f"{float(e['lr']):.4g}")) for e in now.epochs]
