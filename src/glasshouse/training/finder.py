"""The learning-rate range test (Smith 2015), on copies: nothing of the caller's changes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glasshouse.data.batches import Batch, batches, prepare, step_count
from glasshouse.errors import DivergedError, NoUsableRate, UsageError, did_you_mean
from glasshouse.rng import derive
from glasshouse.settings import TrainSettings
from glasshouse.training.devices import choose_device
from glasshouse.training.loop import Course, update
from glasshouse.training.state import begin

Losses = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

# Past four times its least the loss only explodes, and tells nothing more.
_EXPLODED = 4.0
# In powers of ten: slopes need more neighbours than values.
_BANDWIDTH, _SLOPE_BANDWIDTH = 0.15, 0.25
# A fall counts from 5 % of the loss on, and from twice the scatter of single batches, which is
# some four standard errors of the smoothed curve.
_LEAST_DROP, _LEAST_SIGNAL = 0.05, 2.0
_FIRST = 5
_NO_VALLEY = (
    "no usable valley: the loss never fell by 5 % and clear of its noise. Look at your data "
    "(labels, scaling, augmentation) and at the net before training."
)


@dataclass(frozen=True)
class LrCurve:
    """What a range test saw and what follows from it.

    lrs ``(steps,)`` rise evenly in the logarithm. losses and smoothed ``(seeds, steps)`` are in
    nats, nan after a seed was stopped. suggestions: the geometric mean over the seeds, by rule;
    band: the lowest and the highest suggestion of the chosen rule. base_lr and max_lr
    bound cyclical schedules (Smith 2015); one-cycle rises to max_lr (Smith and Topin 2017). All
    rates are None when there is no usable valley. guess_loss: what answering with the shares of
    the classes would cost, in nats; nan where it is not known.
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
    guess_loss: float = math.nan


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
    net: nn.Module,
    course: Course,
    *,
    test: RangeTest | None = None,
    rule: str = "valley",
    progress: Progress | None = None,
) -> LrCurve:
    """Train copies of the net for some steps at rising rates and read the losses.

    Each seed has an order, augmentation and dropout of its own. progress is called with
    ("range test", steps done, steps in all). Raises UsageError for an unknown rule.
    """
    _require_rule(rule)
    test = test or RangeTest()
    lrs = np.geomspace(test.start, test.end, test.steps)
    tell = progress or (lambda what, done, total: None)
    rows = []
    for number in range(test.seeds):
        tell("range test", number * test.steps, test.seeds * test.steps)
        rows.append(_one_test(net, _with_seed(course, number), lrs))
    tell("range test", test.seeds * test.steps, test.seeds * test.steps)
    return read_curve(lrs, np.stack(rows), rule, guess_loss=_guess_loss(course))


def read_curve(lrs: Losses, losses: Losses, rule: str, *, guess_loss: float = math.nan) -> LrCurve:
    """Suggestions, band and verdict of measured losses ``(seeds, steps)``."""
    _require_rule(rule)
    smoothed = np.stack([smooth(lrs, row) for row in losses])
    nothing = LrCurve(
        lrs, losses, smoothed, rule, {}, None, None, None, None, _NO_VALLEY, guess_loss
    )
    usable = [row for raw, row in zip(losses, smoothed, strict=True) if _has_valley(raw, row)]
    if len(usable) * 2 <= len(smoothed):
        return nothing
    by_rule = {name: [read(lrs, row) for row in usable] for name, read in RULES.items()}
    suggestions = {name: _geometric_mean(found) for name, found in by_rule.items()}
    max_lr = _geometric_mean([_edge(lrs, row) for row in usable])
    base_lr = min(_geometric_mean([_onset(lrs, row) for row in usable]), max_lr / 4)
    band = (min(by_rule[rule]), max(by_rule[rule]))
    found = replace(
        nothing,
        suggestions=suggestions,
        suggestion=suggestions[rule],
        band=band,
        base_lr=base_lr,
        max_lr=max_lr,
    )
    return replace(found, verdict=_verdict(found, usable))


def with_found_rate(settings: TrainSettings, curve: LrCurve) -> TrainSettings:
    """The settings with the rate that suits their schedule in place of train.lr.

    One-cycle rises to max_lr, triangular goes from base_lr to max_lr, all others start at the
    suggestion. Raises NoUsableRate when there is no usable valley.
    """
    if curve.suggestion is None or curve.max_lr is None or curve.base_lr is None:
        raise NoUsableRate(f"train.lr = 'auto': {curve.verdict} Or give train.lr a number.")
    schedule = settings.schedule
    if schedule.type == "triangular":
        schedule = schedule.model_copy(update={"base": curve.base_lr / curve.max_lr})
    cyclical = schedule.type in ("one_cycle", "triangular")
    lr = curve.max_lr if cyclical else curve.suggestion
    return settings.model_copy(update={"lr": lr, "schedule": schedule})


def curve_to_json(curve: LrCurve) -> dict[str, Any]:
    """The same as plain JSON values; what was not measured is null."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(curve).items()
    }
    for name in ("losses", "smoothed"):
        plain[name] = [[_number_or_none(v) for v in row] for row in plain[name]]
    return plain | {"guess_loss": _number_or_none(curve.guess_loss)}


def curve_from_json(values: dict[str, Any]) -> LrCurve:
    """What curve_to_json wrote."""
    arrays = {
        name: np.array(values[name], dtype=np.float64) for name in ("lrs", "losses", "smoothed")
    }
    band = values["band"]
    guess = values["guess_loss"]
    rest = {
        "band": None if band is None else (band[0], band[1]),
        "guess_loss": math.nan if guess is None else guess,
    }
    return LrCurve(**{**values, **arrays, **rest})


def smooth(lrs: Losses, losses: Losses) -> Losses:
    """A local line fitted in log10 of the rate; it does not lag as running means do.

    nan where the loss is not known.
    """
    known = np.isfinite(losses)
    places, values = np.log10(lrs[known]), losses[known]
    smoothed = np.full(len(lrs), np.nan)
    smoothed[known] = [_line(places - place, values, _BANDWIDTH)[0] for place in places]
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
    settings = course.settings
    data = prepare(course.train, choose_device(settings.device), settings.sampling)
    epochs = -(-steps // step_count(len(data), settings.batch_size))
    for epoch in range(epochs):
        yield from batches(
            data, course.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch
        )


def _with_seed(course: Course, number: int) -> Course:
    # The rate of the settings plays no part and may be "auto"; an average of weights has no use.
    changes = {
        "seed": derive(course.settings.seed, "finder", number),
        "lr": 1e-3,
        "ema_decay": None,
    }
    return replace(course, settings=course.settings.model_copy(update=changes))


def _guess_loss(course: Course) -> float:
    """The entropy of the (smoothed) class shares: what a net that sees nothing can reach."""
    counts = np.bincount(course.train.labels, minlength=len(course.train.class_names))
    if course.settings.sampling == "balanced":
        counts = np.minimum(counts, 1)  # all classes that there are come equally often
    smoothing = course.settings.label_smoothing
    shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _require_rule(rule: str) -> None:
    if rule not in RULES:
        raise UsageError(f"rule '{rule}' is not known. {did_you_mean(rule, RULES)}")


def _number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(offsets: Losses, values: Losses, bandwidth: float) -> tuple[float, float]:
    """Value at offset 0 and slope of the least-squares line, near neighbours weighing most."""
    weights: Losses = np.exp(-0.5 * (offsets / bandwidth) ** 2)
    weights /= weights.sum()
    mean_x, mean_y = weights @ offsets, weights @ values
    spread = weights @ (offsets - mean_x) ** 2
    slope = (weights @ ((offsets - mean_x) * (values - mean_y))) / (spread + 1e-12)
    return float(mean_y - slope * mean_x), float(slope)


def _slopes(lrs: Losses, losses: Losses) -> Losses:
    known = np.isfinite(losses)
    slopes = np.full(len(lrs), np.nan)
    places, values = np.log10(lrs[known]), losses[known]
    slopes[known] = [_line(places - place, values, _SLOPE_BANDWIDTH)[1] for place in places]
    # The loss after its least only rises; a dip on the way up is no place to train at.
    slopes[int(np.nanargmin(losses)) + 1 :] = np.nan
    return slopes


def _has_valley(losses: Losses, smoothed: Losses) -> bool:
    if np.isfinite(losses).sum() < 2 * _FIRST:
        return False
    level = _level(smoothed)
    drop = level - float(np.nanmin(smoothed))
    return drop > max(_LEAST_DROP * level, _LEAST_SIGNAL * _noise(losses, smoothed))


def _noise(losses: Losses, smoothed: Losses) -> float:
    """The scatter of single batches before the loss turns up, in the units of a deviation."""
    end = max(int(np.nanargmin(smoothed)), 2 * _FIRST)
    return 1.4826 * float(np.nanmedian(np.abs(losses[:end] - smoothed[:end])))


def _level(losses: Losses) -> float:
    """The loss before anything is learned."""
    return float(np.median(losses[:_FIRST]))


def _onset(lrs: Losses, losses: Losses) -> float:
    """Where a tenth of the whole fall has been made for good."""
    above = np.flatnonzero(losses[: int(np.nanargmin(losses))] > _left(losses, 0.9))
    return float(lrs[above[-1] + 1 if len(above) else 0])


def _edge(lrs: Losses, losses: Losses) -> float:
    """The largest rate at which the loss still falls: where a tenth of the fall is left."""
    return float(lrs[int(np.argmax(losses <= _left(losses, 0.1)))])


def _left(losses: Losses, share: float) -> float:
    """The loss when this share of the whole fall is left."""
    least = float(np.nanmin(losses))
    return least + share * (_level(losses) - least)


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _verdict(curve: LrCurve, usable: Sequence[Losses]) -> str:
    """The suggestion in words, and every doubt about it."""
    assert curve.band is not None
    low, high = curve.band
    spread = f", {low:.2g} to {high:.2g} over {len(usable)} seeds" if len(usable) > 1 else ""
    doubts = _doubts(curve, usable)
    return "; ".join([f"use {curve.suggestion:.2g} (rule {curve.rule}{spread})", *doubts])


def _doubts(curve: LrCurve, usable: Sequence[Losses]) -> list[str]:
    assert curve.band is not None
    lowest = [int(np.nanargmin(row)) for row in usable]
    seeds, steps = curve.losses.shape
    least = float(np.median([np.nanmin(row) for row in usable]))
    possible = {
        f"{seeds - len(usable)} of {seeds} seeds found no valley": len(usable) < seeds,
        "the seeds disagree by more than ten times, so try both ends": curve.band[1]
        > 10 * curve.band[0],
        f"the loss still fell at {curve.lrs[-1]:.2g}, the highest rate tried: raise the end": (
            np.median(lowest) >= steps - 2
        ),
        f"the loss fell from {curve.lrs[0]:.2g} on, the lowest rate tried: lower the start": (
            np.median([_onset(curve.lrs, row) for row in usable]) <= curve.lrs[min(2, steps - 1)]
        ),
        f"but the loss came to {least:.2f} at best, and guessing costs {curve.guess_loss:.2f}: "
        "try more steps, and if that does not help, look at your data": (
            least > 0.98 * curve.guess_loss
        ),
    }
    return [text for text, holds in possible.items() if holds]
