"""The learning-rate range test (Smith 2015), on copies: nothing of the caller's changes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.batches import Batch, batches, prepare, step_count
from glasshouse.errors import DivergedError, UsageError, did_you_mean
from glasshouse.rng import derive
from glasshouse.training.devices import choose_device
from glasshouse.training.loop import Course, update
from glasshouse.training.state import begin

Losses = NDArray[np.float64]

# Past four times its least the loss only explodes, and tells nothing more.
_EXPLODED = 4.0
_BANDWIDTH = 0.12
_LEAST_DROP = 0.05
_NO_VALLEY = (
    "no usable valley: the loss never fell by 5 %. Look at your data (labels, scaling, "
    "augmentation) and at the net before training."
)


@dataclass(frozen=True)
class LrCurve:
    """What a range test saw and what follows from it.

    lrs ``(steps,)`` rise evenly in the logarithm. losses and smoothed ``(seeds, steps)`` are in
    nats, nan after a seed was stopped. suggestions: the geometric mean over the seeds, by rule;
    band: the lowest and the highest suggestion of the chosen rule. base_lr and max_lr
    bound cyclical schedules (Smith 2015); one-cycle rises to max_lr (Smith and Topin 2017). All
    rates are None when there is no usable valley.
    """

    lrs: Losses
    losses: Losses
    smoothed: Losses
    rule: str
    suggestions: dict[str, float]
    suggestion: float | None
    band: tuple[float, float] | None
    base_lr: float | None
    max_lr: float | None
    verdict: str


@dataclass(frozen=True)
class RangeTest:
    """From which to which rate, in how many steps, and how often."""

    start: float = 1e-6
    end: float = 10.0
    steps: int = 100
    seeds: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.start < self.end or self.steps < 20 or self.seeds < 1:
            raise UsageError(
                "range test: expected 0 < start < end, 20 steps or more and a seed or more; "
                f"received start={self.start}, end={self.end}, steps={self.steps}, "
                f"seeds={self.seeds}"
            )


def find_lr(
    net: nn.Module, course: Course, *, test: RangeTest | None = None, rule: str = "valley"
) -> LrCurve:
    """Train copies of the net for some steps at rising rates and read the losses.

    Each seed has an order, augmentation and dropout of its own. Raises UsageError for an unknown
    rule.
    """
    if rule not in RULES:
        raise UsageError(f"rule '{rule}' is not known. {did_you_mean(rule, RULES)}")
    test = test or RangeTest()
    lrs = np.geomspace(test.start, test.end, test.steps)
    losses = np.stack([_one_test(net, _with_seed(course, n), lrs) for n in range(test.seeds)])
    return read_curve(lrs, losses, rule)


def read_curve(lrs: Losses, losses: Losses, rule: str) -> LrCurve:
    """Suggestions, band and verdict of measured losses ``(seeds, steps)``."""
    smoothed = np.stack([smooth(lrs, row) for row in losses])
    nothing = LrCurve(lrs, losses, smoothed, rule, {}, None, None, None, None, _NO_VALLEY)
    usable = [row for row in smoothed if _has_valley(row)]
    if len(usable) * 2 <= len(smoothed):
        return nothing
    by_rule = {name: [read(lrs, row) for row in usable] for name, read in RULES.items()}
    suggestions = {name: _geometric_mean(found) for name, found in by_rule.items()}
    suggestion, chosen = suggestions[rule], by_rule[rule]
    max_lr = _geometric_mean([_edge(lrs, row) for row in usable])
    base_lr = min(_geometric_mean([_onset(lrs, row) for row in usable]), max_lr / 4)
    band = (min(chosen), max(chosen))
    return replace(
        nothing,
        suggestions=suggestions,
        suggestion=suggestion,
        band=band,
        base_lr=base_lr,
        max_lr=max_lr,
        verdict=_verdict(suggestion, band, rule, len(usable), len(smoothed)),
    )


def smooth(lrs: Losses, losses: Losses) -> Losses:
    """A local line fitted in log10 of the rate; it does not lag as running means do.

    nan where the loss is not known.
    """
    known = np.isfinite(losses)
    places, values = np.log10(lrs[known]), losses[known]
    smoothed = np.full(len(lrs), np.nan)
    smoothed[known] = [_line_value(places - place, values) for place in places]
    return smoothed


def steepest(lrs: Losses, losses: Losses) -> float:
    """The rate at which the loss falls most for each step in the logarithm."""
    return float(lrs[int(np.nanargmin(_slopes(lrs, losses)))])


def minimum_tenth(lrs: Losses, losses: Losses) -> float:
    """A tenth of the rate at which the loss is least."""
    return float(lrs[int(np.nanargmin(losses))] / 10)


def valley(lrs: Losses, losses: Losses) -> float:
    """Two thirds of the way, in the logarithm, from where the loss begins to fall to its least."""
    start, end = np.log(_onset(lrs, losses)), np.log(lrs[int(np.nanargmin(losses))])
    return float(np.exp(start + 2 / 3 * (end - start)))


RULES: dict[str, Callable[[Losses, Losses], float]] = {
    "steepest": steepest,
    "valley": valley,
    "minimum/10": minimum_tenth,
}


def _one_test(net: nn.Module, course: Course, lrs: Losses) -> Losses:
    """The loss before each step at these rates; nan from where it exploded."""
    state = begin(net, course.settings, choose_device(course.settings.device))
    losses = np.full(len(lrs), np.nan)
    for i, (lr, batch) in enumerate(zip(lrs, _endless(course, len(lrs)), strict=False)):
        try:
            losses[i] = update(state, batch, course, float(lr))[0].item()
        except DivergedError:
            break
        if losses[i] > _EXPLODED * np.nanmin(losses):
            break
        state.step += 1
    return losses


def _endless(course: Course, steps: int) -> Iterator[Batch]:
    """So many batches, over as many epochs as they take."""
    data = prepare(course.train, choose_device(course.settings.device))
    settings = course.settings
    epochs = -(-steps // step_count(len(data), settings.batch_size))
    for epoch in range(epochs):
        yield from batches(
            data, course.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch
        )


def _with_seed(course: Course, number: int) -> Course:
    seed = derive(course.settings.seed, "finder", number)
    return replace(course, settings=course.settings.model_copy(update={"seed": seed}))


def _line_value(offsets: Losses, values: Losses) -> float:
    """The value at offset 0 of the least-squares line, near neighbours weighing most."""
    weights: Losses = np.exp(-0.5 * (offsets / _BANDWIDTH) ** 2)
    weights /= weights.sum()
    mean_x, mean_y = weights @ offsets, weights @ values
    spread = weights @ (offsets - mean_x) ** 2
    slope = (weights @ ((offsets - mean_x) * (values - mean_y))) / (spread + 1e-12)
    return float(mean_y - slope * mean_x)


def _slopes(lrs: Losses, losses: Losses) -> Losses:
    known = np.isfinite(losses)
    slopes = np.full(len(lrs), np.nan)
    slopes[known] = np.gradient(losses[known], np.log10(lrs[known]))
    # The loss after its least only rises; a dip on the way up is no place to train at.
    slopes[int(np.nanargmin(losses)) + 1 :] = np.nan
    return slopes


def _has_valley(losses: Losses) -> bool:
    known = losses[np.isfinite(losses)]
    if len(known) < 8:
        return False
    return bool(known.min() < known[0] * (1 - _LEAST_DROP))


def _onset(lrs: Losses, losses: Losses) -> float:
    """Where a tenth of the whole fall has been made."""
    lowest = int(np.nanargmin(losses))
    level = losses[0] - 0.1 * (losses[0] - losses[lowest])
    return float(lrs[int(np.argmax(losses[: lowest + 1] < level))])


def _edge(lrs: Losses, losses: Losses) -> float:
    """The largest rate at which the loss still falls: a little before its least."""
    lowest = int(np.nanargmin(losses))
    level = losses[lowest] + 0.1 * (losses[0] - losses[lowest])
    return float(lrs[int(np.argmax(losses[: lowest + 1] < level))])


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _verdict(
    suggestion: float, band: tuple[float, float], rule: str, usable: int, seeds: int
) -> str:
    low, high = band
    text = f"use {suggestion:.2g} (rule {rule}, {low:.2g} to {high:.2g} over {usable} seeds)"
    if usable < seeds:
        text += f"; {seeds - usable} of {seeds} seeds found no valley"
    if high > 10 * low:
        text += "; the seeds disagree by more than ten times, so try both ends"
    return text
