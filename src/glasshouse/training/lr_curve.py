"""The curve of a range test: losses at rising learning rates, and the rates they suggest."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import UsageError, did_you_mean

Losses = NDArray[np.float64]

# In powers of ten. Slopes need more neighbours than values.
_BANDWIDTH, _SLOPE_BANDWIDTH = 0.15, 0.25
# A fall counts when it exceeds 2 % of the loss and twice the scatter of single batches, which is
# about four standard errors of the smoothed curve.
_LEAST_DROP, _LEAST_SIGNAL = 0.02, 2.0
# A network has learned something when its loss is this far below that of a constant prediction.
_LEARNED = 0.98
_FIRST = 5
# The level is that of the middle one of the first rates, so a fall begins no earlier than after it.
_EARLIEST = _FIRST // 2 + 1
# The fall begins where a tenth of it is done. The floor of the valley ends where a quarter is lost
# again, which is more than the noise of the smoothed curve.
_BEGUN, _MISSING, _LOST = 0.1, 0.25, 3.0
# The peak of a schedule may be higher than a rate that is kept throughout. Measured with shapes,
# digits and CIFAR-10 on four networks: see docs/tuning.md.
_PEAK_SHARE, _KEPT_SHARE = 1 / 3, 1 / 10
_NO_VALLEY = (
    "no usable valley: the loss never fell by more than 2 % beyond its noise. Check the data "
    "(labels, scaling, augmentation) and the network before training."
)
DEFAULT_RULE = "minimum/10"


@dataclass(frozen=True)
class LrCurve:
    """The result of a range test.

    lrs ``(steps,)``: evenly spaced in the logarithm. losses, smoothed ``(seeds, steps)``: in nats,
    nan after a seed was stopped. suggestions: one per rule, from the mean over seeds. band: lowest
    and highest suggestion of the chosen rule when one seed is left out. base_lr, max_lr: bounds of
    cyclical schedules (Smith 2015); one-cycle rises to max_lr (Smith and Topin 2017), a third of
    the highest rate at which the loss is close to its minimum. All of these are None without a
    usable valley. guess_loss: the loss of predicting the class frequencies, in nats; nan where
    unknown.
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
    """Suggestions, band and verdict for measured losses ``(seeds, steps)``."""
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
    """The part of a smoothed curve that is due to learning, without unknown values.

    An untrained head has a higher loss than a constant prediction, and any learning rate brings
    that down, so losses are capped at that of a constant prediction and at the initial loss. Humps
    are ignored, because networks leave steep regions that way and learn on at higher rates, unless
    one loses three times what was learned: a dip after that is no rate to train at. A network that
    only reaches the constant prediction may be dead, and its floor would never end, so the curve
    ends where that floor begins.
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
    """The curve as plain JSON values; what was not measured is null."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(curve).items()
    }
    for name in ("losses", "smoothed"):
        plain[name] = [[_number_or_none(v) for v in row] for row in plain[name]]
    return plain | {"guess_loss": _number_or_none(curve.guess_loss)}


def curve_from_json(values: dict[str, Any]) -> LrCurve:
    """The curve from the values of curve_to_json."""
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
    """Local linear regression over log10 of the learning rate; has no lag, unlike running means.

    nan where the loss is unknown.
    """
    known = np.isfinite(losses)
    places, values = np.log10(lrs[known]), losses[known]
    smoothed = np.full(len(lrs), np.nan)
    smoothed[known] = [_line(places - place, values, _BANDWIDTH)[0] for place in places]
    return smoothed


def steepest(lrs: Losses, losses: Losses) -> float:
    """The learning rate at which the loss falls most steeply over its logarithm."""
    return float(lrs[int(np.nanargmin(_slopes(lrs, losses)))])


def minimum_tenth(lrs: Losses, losses: Losses) -> float:
    """A tenth of the highest learning rate at which the loss is close to its minimum.

    The floor of a valley may be flat over more than a power of ten, so that noise decides where the
    minimum lies; the end of the floor is well defined.
    """
    return _KEPT_SHARE * _floor_end(lrs, losses)


def valley(lrs: Losses, losses: Losses) -> float:
    """Two thirds of the way, in the logarithm, from the start of the fall to the minimum."""
    start, end = np.log(_onset(lrs, losses)), np.log(lrs[int(np.nanargmin(losses))])
    return float(np.exp(start + 2 / 3 * (end - start)))


RULES: dict[str, Callable[[Losses, Losses], float]] = {
    "steepest": steepest,
    "valley": valley,
    "minimum/10": minimum_tenth,
}


def require_rule(rule: str) -> None:
    """Raise UsageError, naming the closest match, for an unknown rule."""
    if rule not in RULES:
        raise UsageError(f"rule '{rule}' is not known. {did_you_mean(rule, RULES)}")


def _number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(offsets: Losses, values: Losses, bandwidth: float) -> tuple[float, float]:
    """Value at offset 0 and slope of a least-squares line with Gaussian weights."""
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
    # After its minimum the loss only rises; a dip on the way up is no rate to train at.
    slopes[int(np.nanargmin(losses)) + 1 :] = np.nan
    return slopes


def _has_valley(losses: Losses, smoothed: Losses) -> bool:
    if np.isfinite(losses).sum() < 2 * _FIRST:
        return False
    level = _level(smoothed)
    drop = level - float(np.nanmin(smoothed[_FIRST:]))
    return drop > max(_LEAST_DROP * level, _LEAST_SIGNAL * _noise(losses, smoothed))


def _noise(losses: Losses, smoothed: Losses) -> float:
    """The scatter of single batches before the loss rises, as a standard deviation."""
    end = max(int(np.nanargmin(smoothed)), 2 * _FIRST)
    return 1.4826 * float(np.nanmedian(np.abs(losses[:end] - smoothed[:end])))


def _level(losses: Losses) -> float:
    """The loss before anything is learned."""
    return float(np.median(losses[:_FIRST]))


def _onset(lrs: Losses, losses: Losses) -> float:
    """The learning rate from which at least a tenth of the whole fall is done."""
    above = np.flatnonzero(losses[: int(np.nanargmin(losses))] > _left(losses, 1 - _BEGUN))
    return float(lrs[above[-1] + 1 if len(above) else 0])


def _floor_end(lrs: Losses, losses: Losses) -> float:
    """The highest learning rate at which the loss is close to its minimum."""
    return float(lrs[np.flatnonzero(losses <= _left(losses, _MISSING))[-1]])


def _left(losses: Losses, share: float) -> float:
    """The loss at which this share of the whole fall is left."""
    least = float(np.nanmin(losses))
    return least + share * (_level(losses) - least)


def _without_one(curves: Losses) -> Iterator[Losses]:
    """The mean of all curves but one, for each in turn; a single curve itself."""
    for number in range(len(curves)):
        others = np.delete(curves, number, axis=0)
        yield (others if len(others) else curves).mean(axis=0)


def _verdict(curve: LrCurve, usable: Losses) -> str:
    """The suggestion in words, with every reservation about it."""
    assert curve.band is not None
    low, high = curve.band
    spread = f", {low:.2g} to {high:.2g} over {len(usable)} seeds" if len(usable) > 1 else ""
    doubts = _doubts(curve, usable)
    return "; ".join([f"{curve.rule} suggests {curve.suggestion:.2g}{spread}", *doubts])


def _doubts(curve: LrCurve, usable: Losses) -> list[str]:
    assert curve.band is not None
    lowest = usable.argmin(axis=1)
    seeds, steps = curve.losses.shape
    least = float(np.median(usable.min(axis=1)))
    possible = {
        f"{seeds - len(usable)} of {seeds} seeds found no valley": len(usable) < seeds,
        "the seeds disagree by more than a factor of ten, so try both ends": curve.band[1]
        > 10 * curve.band[0],
        f"the loss was still falling at the highest rate, {curve.lrs[-1]:.2g}: raise the end": (
            np.median(lowest) >= steps - 2
        ),
        f"the loss was falling at the lowest rate already, {curve.lrs[0]:.2g}: lower the start": (
            np.median([_onset(curve.lrs, row) for row in usable]) <= curve.lrs[_EARLIEST]
        ),
        f"but the lowest loss was {least:.2f}, and guessing costs {curve.guess_loss:.2f}: "
        "try more steps, and if that does not help, check the data": (
            least > _LEARNED * curve.guess_loss
        ),
    }
    return [text for text, holds in possible.items() if holds]
