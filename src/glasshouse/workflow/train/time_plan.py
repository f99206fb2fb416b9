"""The plan for a training run within a time budget: a pure function of measured speeds."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from glasshouse.errors import UsageError
from glasshouse.training.pace import Pace

# With fewer epochs than this a narrower network reaches more in the same time. Measured with
# small-residual on CIFAR-10, about 70 s each: 71.9 % with 0.9 epochs, 74.4 % at half the width with
# 1.8, 74.0 % at a quarter with 4.
ENOUGH_EPOCHS = 3
# A small data set is not repeated more often, however much time there is.
MOST_EPOCHS = 200
# Where rounding down to whole epochs would waste this share of the time, another epoch is added
# and all of them see fewer images.
_WASTE = 0.1
# Training is planned for this share of what is left, because machines slow down as they heat up.
_SAFETY = 0.9
# With fewer images there is nothing worth training.
_FEWEST_IMAGES = 200


@dataclass(frozen=True)
class Work:
    """How much a run has to do: images of each split, and of the range test if there is one.

    seconds: everything that is neither training nor inference: loading, metrics, report.
    """

    train: int
    validation: int
    test: int
    finder: int
    seconds: float


@dataclass(frozen=True)
class TimePlan:
    """What fits: width as a factor of the recipe's, epochs, and training images per epoch.

    seconds: expected for the whole run.
    """

    width: float
    epochs: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Budget:
    """What was requested, measured and chosen; recorded in the run.

    minutes: for everything. runs: how many share them. seconds_before: spent on measuring.
    """

    minutes: float
    runs: int
    seconds_before: float
    work: Work
    paces: tuple[Pace, ...]
    plan: TimePlan


def choose_plan(
    paces: tuple[Pace, ...], seconds: float, work: Work, recipe_epochs: int
) -> TimePlan:
    """The plan that fits into ``seconds``.

    Takes the widest network that sees the images often enough, or the narrowest where none does;
    wider than the recipe's own only with all of the recipe's epochs. Raises UsageError when
    nothing fits.
    """
    enough = [
        pace
        for pace in paces
        if epochs_in(pace, seconds, work) >= enough_epochs(pace.width, recipe_epochs)
    ]
    widest = max(enough, key=lambda pace: pace.width, default=None)
    pace = widest or min(paces, key=lambda pace: pace.width)
    epochs, images = _whole_epochs(pace, seconds, work)
    training = epochs * epoch_seconds(pace, images, work)
    return TimePlan(
        width=pace.width,
        epochs=epochs,
        images=images,
        seconds=round(training + fixed_seconds(pace, work), 1),
    )


def enough_epochs(width: float, recipe_epochs: int) -> int:
    """The epochs below which a network of this width is not worth its cost."""
    return recipe_epochs if width > 1 else min(recipe_epochs, ENOUGH_EPOCHS)


def epochs_in(pace: Pace, seconds: float, work: Work) -> float:
    """Epochs over all training images that fit, as a fraction; negative where nothing does."""
    return _training_seconds(pace, seconds, work) / epoch_seconds(pace, work.train, work)


def epoch_seconds(pace: Pace, images: int, work: Work) -> float:
    """Seconds of one epoch over this many images, with validation, checkpoint and snapshot."""
    validating = work.validation / pace.validating
    return images / pace.training + validating + pace.saving + pace.explaining


def fixed_seconds(pace: Pace, work: Work) -> float:
    """Seconds of a run that do not depend on its epochs."""
    answering = (work.validation + work.test) / pace.answering
    # One snapshot is taken per epoch, and one of the untrained network.
    return work.seconds + answering + work.finder / pace.training + pace.explaining


def describe_budget(budget: Budget | dict[str, Any]) -> str:
    """What was measured and chosen, in two sentences; takes a recorded budget as well."""
    record = budget if isinstance(budget, dict) else asdict(budget)
    plan, work = record["plan"], record["work"]
    paces = ", ".join(f"{p['training']:,.0f} at {p['width']:g}" for p in record["paces"])
    share = "all" if plan["images"] == work["train"] else f"{plan['images']:,} of"
    each = f" for each of {record['runs']} runs" if record["runs"] > 1 else ""
    return (
        f"training images/s by width: {paces}. Chosen: {plan['width']:g} times the width, "
        f"{plan['epochs']} epochs of {share} {work['train']:,} images, about "
        f"{plan['seconds']:.0f} s{each} after {record['seconds_before']:.0f} s of measuring."
    )


def _whole_epochs(pace: Pace, seconds: float, work: Work) -> tuple[int, int]:
    """Whole epochs and the images of each: all, or fewer where whole epochs would waste time."""
    fitting = epochs_in(pace, seconds, work)
    if fitting >= MOST_EPOCHS:
        return MOST_EPOCHS, work.train
    if fitting >= ENOUGH_EPOCHS and fitting < (1 - _WASTE) * math.ceil(fitting):
        return math.floor(fitting), work.train
    epochs = max(1, math.ceil(fitting))
    overhead = epoch_seconds(pace, 0, work)
    images = pace.training * (_training_seconds(pace, seconds, work) / epochs - overhead)
    if images < min(_FEWEST_IMAGES, work.train):
        if fitting >= 1:
            return math.floor(fitting), work.train
        training = (overhead + min(_FEWEST_IMAGES, work.train) / pace.training) / _SAFETY
        shortest = fixed_seconds(pace, work) + training
        more = math.ceil((shortest - seconds) / 60)
        raise UsageError(
            f"--minutes is too short: after reading, measuring and reporting {max(seconds, 0):.0f} "
            f"s are left, and the shortest run takes {shortest:.0f} s. Give {more} more minutes, "
            "or a faster recipe."
        )
    return epochs, min(math.floor(images), work.train)


def _training_seconds(pace: Pace, seconds: float, work: Work) -> float:
    return _SAFETY * (seconds - fixed_seconds(pace, work))
