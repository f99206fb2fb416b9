"""The curve of a learning-rate range test, with the suggestion marked."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glasshouse.report.theme import Theme, legend, new_figure, style, theme_of
from glasshouse.training.lr_curve import LrCurve

_MARKS: dict[str, Literal["v", "o", "s"]] = {"steepest": "v", "valley": "o", "minimum/10": "s"}


def plot_lr_curve(curve: LrCurve, *, dark: bool = False) -> Figure:
    """Loss against learning rate: batches as faint dots, smoothed curves, suggestions of all rules.

    Also marks the band of the chosen rule, and the bounds for cyclical schedules.
    """
    theme = theme_of(dark)
    figure = new_figure(7.4, 4.5, theme)
    axes = figure.add_subplot()
    _draw_losses(axes, curve, theme)
    if np.isfinite(curve.guess_loss):
        axes.axhline(curve.guess_loss, color=theme.quiet, linewidth=1, linestyle=":",
                     label="guessing")  # fmt: skip
    if curve.suggestion is not None:
        _draw_suggestions(axes, curve, theme)
    style(axes, theme)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss of one batch")
    axes.set_ylim(*_limits(curve))
    axes.set_xlim(float(curve.lrs[0]), _end(curve))
    axes.tick_params(which="minor", length=0)
    legend(figure, theme, "outside lower center", columns=3)
    axes.set_title(_title(curve), fontsize=10, color=theme.ink, loc="left")
    return figure


def _draw_losses(axes: Axes, curve: LrCurve, theme: Theme) -> None:
    seeds = "1 seed" if len(curve.losses) == 1 else f"{len(curve.losses)} seeds"
    for number, (raw, smoothed) in enumerate(zip(curve.losses, curve.smoothed, strict=True)):
        axes.plot(curve.lrs, raw, ".", markersize=2.5, color=theme.blue, alpha=0.35)
        label = f"smoothed, {seeds}" if number == 0 else None
        axes.plot(curve.lrs, smoothed, color=theme.blue, linewidth=1.5, alpha=0.85, label=label)


def _draw_suggestions(axes: Axes, curve: LrCurve, theme: Theme) -> None:
    assert curve.band is not None
    if curve.band[1] > curve.band[0]:
        axes.axvspan(*curve.band, color=theme.orange, alpha=0.14, linewidth=0)
    mean = _mean(curve)
    for rule, lr in curve.suggestions.items():
        chosen = rule == curve.rule
        colour = theme.orange if chosen else theme.quiet
        height = float(np.interp(np.log(lr), np.log(curve.lrs), mean))
        axes.plot([lr], [height], _MARKS.get(rule, "o"), color=colour, zorder=4,
                  markersize=9 if chosen else 6, label=f"{rule}: {lr:.2g}")  # fmt: skip
        if chosen:
            axes.axvline(lr, color=colour, linewidth=1.6)
    for name, bound in (("base", curve.base_lr), ("max", curve.max_lr)):
        if bound is not None:
            axes.axvline(bound, color=theme.quiet, linewidth=1, linestyle="--")
            axes.annotate(f" {name} {bound:.2g}", (bound, 0.985), fontsize=8, rotation=90,
                          xycoords=("data", "axes fraction"), color=theme.quiet,
                          ha="right", va="top")  # fmt: skip


def _mean(curve: LrCurve) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The mean over the seeds still running, extended by its last value."""
    known = np.isfinite(curve.smoothed)
    counts = known.sum(axis=0)
    sums = np.where(known, curve.smoothed, 0.0).sum(axis=0)
    mean = sums / np.maximum(counts, 1)
    last = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
    mean[last + 1 :] = mean[last]
    return np.asarray(mean)


def _limits(curve: LrCurve) -> tuple[float, float]:
    """Axis limits up to a little above the initial loss; divergence would hide the valley."""
    known = curve.smoothed[np.isfinite(curve.smoothed)]
    if not len(known):
        return 0.0, 1.0
    level = float(np.median(known[:5]))
    depth = max(level - float(known.min()), 0.1 * abs(level), 1e-6)
    return float(known.min()) - 0.35 * depth, level + 0.9 * depth


def _end(curve: LrCurve) -> float:
    """The last learning rate at which any seed was still running."""
    known = np.isfinite(curve.losses).any(axis=0)
    last = int(np.flatnonzero(known)[-1]) if known.any() else len(curve.lrs) - 1
    return float(curve.lrs[max(last, 1)])


def _title(curve: LrCurve) -> str:
    if curve.suggestion is None:
        return "No usable valley: check the data"
    assert curve.band is not None
    low, high = curve.band
    seeds = len(curve.losses)
    spread = f"; band {low:.2g} to {high:.2g} over {seeds} seeds" if high > low else ""
    return f"Suggested learning rate: {curve.suggestion:.2g} (rule {curve.rule}{spread})"
