"""Learning-rate schedules as pure functions of the position in the run.

Every curve maps (settings, epoch, epochs) to a factor of the peak learning rate, where epoch is the
number of completed epochs, a float from 0 to epochs. Rates that are listed are rates themselves.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from glasshouse import settings
from glasshouse.errors import UsageError
from glasshouse.settings import TrainSettings


@dataclass(frozen=True)
class EveryStep:
    """A learning rate that changes within an epoch.

    function: from the number of completed epochs, a float, to a learning rate.
    """

    function: Callable[[float], float]


# A plain function is called as Keras's LearningRateScheduler does: with 0 in the first epoch, and
# where it takes a second argument, with the learning rate before.
Rate = Callable[[int], float] | Callable[[int, float], float] | EveryStep


def require_rate(rate: object, settings: TrainSettings) -> None:
    """Raise UsageError for anything but a `Rate`, and for settings that it leaves no effect."""
    if isinstance(rate, EveryStep) or (callable(rate) and _takes(rate, 1) | _takes(rate, 2)):
        _require_effect(rate, settings)
        return
    if callable(rate):
        raise UsageError(
            "rate: expected a function of the epoch, or of the epoch and the learning rate before, "
            f"received one that takes {inspect.signature(rate)}"
        )
    raise UsageError(
        f"rate: expected a function of the epoch, received {rate!r}; a constant rate is a setting: "
        f"TrainSettings(lr={rate!r})"
    )


def _require_effect(rate: Rate, settings: TrainSettings) -> None:
    if settings.warmup_epochs:
        raise UsageError(
            "warmup_epochs has no effect together with rate, which says the learning rate of every "
            "epoch: leave it out, and let the function return smaller rates at first"
        )
    if settings.lr == "auto" and (isinstance(rate, EveryStep) or not _takes(rate, 2)):
        raise UsageError(
            "lr='auto' has no effect together with rate, which says the learning rate of every "
            "epoch: leave one of them out, or let the function take (epoch, lr), the rate before "
            "as well"
        )


def rate_of(rate: Rate | None, settings: TrainSettings) -> Callable[[float], float]:
    """A learning rate by the number of completed epochs, a float.

    A plain function is called once per epoch, with the epoch counted from 0 as an integer; the rate
    before the first is that of the settings. None: the schedule of the settings. Raises UsageError
    where a function returns no learning rate.
    """
    if rate is None:
        return partial(learning_rate, settings)
    if isinstance(rate, EveryStep):
        always = rate.function
        return lambda epoch: _returned(always(epoch), epoch)
    function: Callable[..., object] = rate

    # Called with fractions, `epoch > 5` would hold one epoch too early.
    @cache
    def of_epoch(epoch: int) -> float:
        if not _takes(function, 2):
            return _returned(function(epoch), epoch)
        return _returned(function(epoch, of_epoch(epoch - 1) if epoch else settings.peak_lr), epoch)

    return lambda epoch: of_epoch(math.floor(epoch))


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with this many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # one in C does not say
        return count == 1
    return True


def _returned(rate: object, epoch: float) -> float:
    try:
        number = float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(
            f"rate: expected a learning rate, a number of at least 0, for epoch {epoch:g}; "
            f"received {rate!r}"
        )
    return number


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """The learning rate after this many epochs, a float, including warm-up."""
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return settings.peak_lr * epoch / warmup
    curve = _CURVES[settings.schedule.type]
    # Curves start after the warm-up; rates listed per epoch keep their epochs.
    if settings.schedule.type == "per_epoch":
        return curve(settings.schedule, epoch, settings.epochs)
    length = max(settings.epochs - warmup, 1e-9)
    return settings.peak_lr * curve(settings.schedule, epoch - warmup, length)


def with_peak(settings: TrainSettings, lr: float) -> TrainSettings:
    """The settings with another peak learning rate, to which listed rates are scaled."""
    schedule = settings.schedule
    if schedule.type == "per_epoch":
        highest = max(schedule.rates)
        rates = tuple(lr if rate == highest else lr * rate / highest for rate in schedule.rates)
        schedule = schedule.model_copy(update={"rates": rates})
    return settings.model_copy(update={"lr": lr, "schedule": schedule})


def depends_on_epochs(schedule: settings.Schedule) -> bool:
    """Whether more epochs would change the learning rates of the first ones."""
    if isinstance(schedule, settings.Triangular):
        # A cycle of a given length is always the same, unless the last one ends differently.
        return schedule.cycle is None or schedule.end is not None
    return isinstance(schedule, settings.Exponential | settings.Cosine | settings.OneCycle)


def fitted_to(train: TrainSettings, epochs: int) -> TrainSettings:
    """The schedule stretched to another number of epochs; a constant one becomes a cosine."""
    ratio, schedule, peak = epochs / train.epochs, train.schedule, train.lr
    fitted: settings.Schedule = schedule
    if isinstance(schedule, settings.Constant):
        fitted = settings.Cosine()
    elif isinstance(schedule, settings.StepDecay):
        fitted = schedule.model_copy(update={"every": schedule.every * ratio})
    elif isinstance(schedule, settings.Triangular) and schedule.cycle is not None:
        fitted = schedule.model_copy(update={"cycle": schedule.cycle * ratio})
    elif isinstance(schedule, settings.PerEpoch):
        last = len(schedule.rates) - 1
        rates = tuple(schedule.rates[min(int(i / ratio), last)] for i in range(epochs))
        fitted = schedule.model_copy(update={"rates": rates})
        peak = peak if peak == "auto" else max(rates)  # the highest may be left out
    changed = {"epochs": epochs, "lr": peak, "schedule": fitted}
    return train.model_copy(update={**changed, "warmup_epochs": train.warmup_epochs * ratio})


def _constant(schedule: settings.Constant, epoch: float, epochs: float) -> float:
    return 1.0


def _step(schedule: settings.StepDecay, epoch: float, epochs: float) -> float:
    # Fractions of an epoch may fall short of a whole number by a rounding error.
    passed = math.floor(epoch / schedule.every + 1e-9)
    return math.pow(schedule.factor, passed)


def _exponential(schedule: settings.Exponential, epoch: float, epochs: float) -> float:
    return math.pow(schedule.final, epoch / epochs)


def _cosine(schedule: settings.Cosine, epoch: float, epochs: float) -> float:
    return _between(1.0, schedule.final, epoch / epochs)


def _one_cycle(schedule: settings.OneCycle, epoch: float, epochs: float) -> float:
    position = epoch / epochs
    if position < schedule.rise:
        return _between(schedule.start, 1.0, position / schedule.rise)
    return _between(1.0, schedule.final, (position - schedule.rise) / (1 - schedule.rise))


def _triangular(schedule: settings.Triangular, epoch: float, epochs: float) -> float:
    length = schedule.cycle or epochs
    cycles, position = divmod(epoch / length, 1.0)
    if epoch >= epochs and position == 0.0:
        cycles, position = cycles - 1, 1.0  # the run ends at the bottom of its last cycle
    top = schedule.base + (1 - schedule.base) * (0.5**cycles if schedule.halve else 1.0)
    if position < schedule.rise:
        return schedule.base + (top - schedule.base) * position / schedule.rise
    is_last = (cycles + 1) * length >= epochs
    foot = schedule.base if schedule.end is None or not is_last else schedule.end
    return foot + (top - foot) * (1 - position) / (1 - schedule.rise)


def _per_epoch(schedule: settings.PerEpoch, epoch: float, epochs: float) -> float:
    return schedule.rates[min(math.floor(epoch + 1e-9), len(schedule.rates) - 1)]


def _between(start: float, end: float, position: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2


_CURVES: dict[str, Callable[[Any, float, float], float]] = {
    "constant": _constant,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "triangular": _triangular,
    "per_epoch": _per_epoch,
}
