"""The curve of a range test: what the losses at rising rates say about the rate to train at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError, did_you_mean

Losses = NDArray[np.float64]

# In powers of ten: slopes need more neighbours than values.
_BANDWIDTH, _SLOPE_BANDWIDTH = 0.15, 0.25
# A fall counts from 2 % of the loss on, and from twice the scatter of single batches, which is
# some four standard errors of the smoothed curve.
_LEAST_DROP, _LEAST_SIGNAL = 0.02, 2.0
# A net has learned something when its loss came so far below that of guessing.
_LEARNED = 0.98
_FIRST = 5
# Where a tenth of what is learned has come, the fall begins; where a quarter is missing again, more
# than the noise of the smoothed curve, the floor of the valley ends.
_BEGUN, _MISSING, _LOST = 0.1, 0.25, 3.0
# A peak that is held for a moment only may be higher than a rate that is kept. Seen with shapes,
# digits and CIFAR-10 on four nets: see docs/tuning.md.
_PEAK_SHARE, _KEPT_SHARE = 1 / 3, 1 / 10
_NO_VALLEY = (
    "no usable valley: the loss never fell by 2 % and clear of its noise. Look at your data "
    "(labels, scaling, augmentation) and at the net before training."
)
DEFAULT_RULE = "minimum/10"


@dataclass(frozen=True)
class LrCurve:
    """What a range test saw and what follows from it.

    lrs ``(steps,)`` rise evenly in the logarithm. losses and smoothed ``(seeds, steps)`` are in
    nats, nan after a seed was stopped. suggestions: by rule, of the mean of the seeds; band: the
    lowest and the highest of the chosen rule when one of the seeds is left out. base_lr and max_lr
    bound cyclical schedules (Smith 2015); one-cycle rises to max_lr (Smith and Topin 2017), a
    third of the highest rate at which the loss is about its least. All rates are None when there
    is no usable valley. guess_loss: what answering with the shares of the classes would cost, in
    nats; nan where it is not known.
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


def read_curve(lrs: Losses, losses: Losses, rule: str, *, guess_loss: float = math.nan) -> LrCurve:
    """Suggestions, band and verdict of measured losses ``(seeds, steps)``."""
    require_rule(rule)
    smoothed = np.stack([smooth(lrs, row) for row in losses])
    nothing = LrCurve(
        lrs, losses, smoothed, rule, {}, None, None, None, None, _NO_VALLEY, guess_loss
    )
    falls = [row for raw, row in zip(losses, smoothed, strict=True) if _has_valley(raw, row)]
    if len(falls) * 2 <= len(smoothed):
        return nothing
    usable = np.stack([learned_part(row, guess_loss) for row in falls])
    mean = usable.mean(axis=0)
    suggestions = {name: read(lrs, mean) for name, read in RULES.items()}
    without_one = [RULES[rule](lrs, row) for row in _without_one(usable)]
    max_lr = _PEAK_SHARE * _floor_end(lrs, mean)
    found = replace(
        nothing,
        suggestions=suggestions,
        suggestion=suggestions[rule],
        band=(min(*without_one, suggestions[rule]), max(*without_one, suggestions[rule])),
        base_lr=min(_onset(lrs, mean), max_lr / 4),
        max_lr=max_lr,
    )
    return replace(found, verdict=_verdict(found, usable))


def learned_part(losses: Losses, guess_loss: float = math.nan) -> Losses:
    """A smoothed curve of what was learned alone, and nothing unknown.

    An untrained head costs more than guessing, and any rate brings that down, so no loss counts as
    more than that of guessing, nor as more than at the start. A hump is passed over, as nets leave
    steep places that way and go on learning at higher rates, but not one that loses three times
    what was learned: a dip after that is no place to train at. A net that only comes down to
    guessing may be dead, and its floor goes on for ever, so that one ends where it begins.
    """
    level = _level(losses)
    has_learned = not np.nanmin(losses) >= _LEARNED * guess_loss
    most = float(np.fmin(level, guess_loss)) if has_learned else level
    least = np.fmin.accumulate(losses)
    gain = most - least
    is_over = (gain > 0.5 * gain[-1]) & (losses - least > _LOST * gain)
    if not has_learned:
        is_over[1:] |= losses[:-1] <= _left(losses, _BEGUN)
    is_over = np.maximum.accumulate(is_over) | np.isnan(losses)
    return np.where(is_over, most, np.fmin(losses, most))


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
    """A tenth of the highest rate at which the loss is about its least.

    The floor of a valley may be flat over a power of ten and more, and where on it the noise puts
    the least value tells nothing; where it ends does.
    """
    return _KEPT_SHARE * _floor_end(lrs, losses)


def valley(lrs: Losses, losses: Losses) -> float:
    """Two thirds of the way, in the logarithm, from where the loss begins to fall to its least."""
    start, end = np.log(_onset(lrs, losses)), np.log(lrs[int(np.nanargmin(losses))])
    return float(np.exp(start + 2 / 3 * (end - start)))


RULES: dict[str, Callable[[Losses, Losses], float]] = {
    "steepest": steepest,
    "valley": valley,
    "minimum/10": minimum_tenth,
}


def require_rule(rule: str) -> None:
    """Raise UsageError, naming the nearest, for a rule that is not known."""
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
    drop = level - float(np.nanmin(smoothed[_FIRST:]))
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
    above = np.flatnonzero(losses[: int(np.nanargmin(losses))] > _left(losses, 1 - _BEGUN))
    return float(lrs[above[-1] + 1 if len(above) else 0])


def _floor_end(lrs: Losses, losses: Losses) -> float:
    """The highest rate at which the loss is about its least."""
    return float(lrs[np.flatnonzero(losses <= _left(losses, _MISSING))[-1]])


def _left(losses: Losses, share: float) -> float:
    """The loss when this share of the whole fall is left."""
    least = float(np.nanmin(losses))
    return least + share * (_level(losses) - least)


def _without_one(curves: Losses) -> Iterator[Losses]:
    """The mean of all curves but one, for each of them; the only one itself."""
    for number in range(len(curves)):
        others = np.delete(curves, number, axis=0)
        yield (others if len(others) else curves).mean(axis=0)


def _verdict(curve: LrCurve, usable: Losses) -> str:
    """The suggestion in words, and every doubt about it."""
    assert curve.band is not None
    low, high = curve.band
    spread = f", {low:.2g} to {high:.2g} over {len(usable)} seeds" if len(usable) > 1 else ""
    doubts = _doubts(curve, usable)
    return "; ".join([f"use {curve.suggestion:.2g} (rule {curve.rule}{spread})", *doubts])


def _doubts(curve: LrCurve, usable: Losses) -> list[str]:
    assert curve.band is not None
    lowest = usable.argmin(axis=1)
    seeds, steps = curve.losses.shape
    least = float(np.median(usable.min(axis=1)))
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
            least > _LEARNED * curve.guess_loss
        ),
    }
    return [text for text, holds in possible.items() if holds]
