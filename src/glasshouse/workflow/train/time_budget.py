"""A recipe fitted to a time: the machine is measured, then width, epochs and schedule follow.

What is chosen is an ordinary recipe, so that the run resumes and is reproduced as any other.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from glasshouse.data.images import ImageSet
from glasshouse.data.sources import fingerprint
from glasshouse.errors import RecipeError, UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.width import widened
from glasshouse.progress import Progress
from glasshouse.report import plots
from glasshouse.report.encoding import figure_png
from glasshouse.settings import Recipe
from glasshouse.training.finder import RangeTest
from glasshouse.training.fit import untrained_classifier
from glasshouse.training.pace import Pace, measure_pace
from glasshouse.training.schedules import fitted_to
from glasshouse.training.transfer import starting_net
from glasshouse.workflow.train.experiment import Request, first_classifier, make_setup
from glasshouse.workflow.train.snapshots import fixed_images, snapshot_seconds
from glasshouse.workflow.use.source_check import require_no_errors

# Factors of the recipe's width.
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# Below so many passes over the images a narrower net learns more in the same time. Seen with
# small-residual on CIFAR-10, some 70 s each: 71.9 % with 0.9 epochs, 74.4 % at half the width with
# 1.8, 74.0 % at a quarter with 4.
ENOUGH_EPOCHS = 3
# A small set is not seen more often, however much time there is.
MOST_EPOCHS = 200
# Where an epoch fewer would waste so much of the time, another is made, on fewer images.
_WASTE = 0.1
# Training is planned to take this share of what is left for it, as machines slow down when warm.
_SURE = 0.9
# Seconds of starting Python before the clock is looked at, and of leaving it after the report.
_AROUND = 3.0
# Seconds of measuring a width: a share of the whole time, within these bounds.
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.5, 2.0
# Fewer images teach nothing.
_FEWEST_IMAGES = 200


@dataclass(frozen=True)
class Work:
    """What there is to do in a run: the images of each part, and of the range test, if any.

    seconds: of everything that is neither training nor answering: loading, figures, report.
    """

    train: int
    validation: int
    test: int
    finder: int
    seconds: float


@dataclass(frozen=True)
class TimePlan:
    """What fits: a width as a factor of the recipe's, epochs on so many training images.

    seconds: what the whole run is expected to take.
    """

    width: float
    epochs: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Budget:
    """What was asked for, measured and chosen; recorded in the run."""

    minutes: float
    runs: int
    seconds_before: float
    work: Work
    paces: tuple[Pace, ...]
    plan: TimePlan


def fit_to_minutes(
    request: Request,
    minutes: float,
    *,
    started: float,
    runs: int = 1,
    progress: Progress | None = None,
) -> tuple[Request, Budget]:
    """Measure this machine for some seconds, and fit the recipe to what is left of the minutes.

    started: the time.monotonic() from which the minutes count. With several runs each has an equal
    share. Raises UsageError when the time is too short for any training.
    """
    recipe = request.recipe
    _require_fittable(recipe, minutes)
    opened = time.monotonic()
    measure, work = _measuring(request, minutes, progress)
    # The run will read its images once more.
    reading = time.monotonic() - opened
    work = replace(work, seconds=round(reading + report_seconds() + _AROUND / runs, 2))

    def left() -> float:
        return (60 * minutes - (time.monotonic() - started)) / runs

    own = recipe.train.epochs
    paces = tuple(
        _paces(measure, lambda pace: epochs_in(pace, left(), work) >= _enough(pace.width, own))
    )
    plan = choose(paces, left(), work, own)
    budget = Budget(minutes, runs, round(time.monotonic() - started, 1), work, paces, plan)
    fitted = fitted_recipe(recipe, plan, minutes, whole=work.train)
    return replace(request, recipe=fitted, budget=asdict(budget)), budget


def choose(paces: tuple[Pace, ...], seconds: float, work: Work, recipe_epochs: int) -> TimePlan:
    """The plan that fits into so many seconds.

    The widest net that sees the images often enough; the narrowest where none does. Wider than
    the recipe's own only where that has all the recipe's epochs. Raises UsageError when nothing
    fits.
    """
    enough = [
        pace
        for pace in paces
        if epochs_in(pace, seconds, work) >= _enough(pace.width, recipe_epochs)
    ]
    widest = max(enough, key=lambda pace: pace.width, default=None)
    pace = widest or min(paces, key=lambda pace: pace.width)
    epochs, images = _whole_epochs(pace, seconds, work)
    training = epochs * _epoch_seconds(pace, images, work)
    return TimePlan(pace.width, epochs, images, round(training + _beside(pace, work), 1))


def epochs_in(pace: Pace, seconds: float, work: Work) -> float:
    """Passes over all training images that fit, as a fraction; below 0 where nothing does."""
    return _training_seconds(pace, seconds, work) / _epoch_seconds(pace, work.train, work)


def fitted_recipe(recipe: Recipe, plan: TimePlan, minutes: float, *, whole: int) -> Recipe:
    """The recipe with the width, epochs and images of a plan, annealed at its end."""
    model = recipe.model if plan.width == 1 else widened(recipe.model, plan.width)
    limit = {} if plan.images == whole else {"train_limit": plan.images}
    description = (
        f"{recipe.name}, fitted to {minutes:g} minutes on the machine of this run: "
        f"{plan.width:g} times the width, {plan.epochs} epochs."
    )
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-{minutes:g}min",
            "description": description,
            "data": recipe.data.model_copy(update=limit),
            "model": model,
            "train": fitted_to(recipe.train, plan.epochs),
        }
    )


def describe_budget(budget: Budget | dict[str, Any]) -> str:
    """What was measured and chosen, in two sentences."""
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


def report_seconds() -> float:
    """What the figures and the report of a run take here, judged by one of their figures."""
    names = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "lr")
    epochs = [{"epoch": number, **dict.fromkeys(names, 0.5)} for number in (1, 2)]
    figure_png(plots.plot_curves(epochs))  # imports, fonts
    started = time.perf_counter()
    figure_png(plots.plot_curves(epochs))
    return _FIGURES * (time.perf_counter() - started)


# What a whole report takes, in figures of that kind.
_FIGURES = 20.0


def _require_fittable(recipe: Recipe, minutes: float) -> None:
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes: expected a number above 0, received {minutes:g}")
    if recipe.transfer.way == "features":
        raise UsageError(
            f"--minutes: recipe {recipe.name} has no epochs that could be fitted; train without it"
        )


def _measuring(
    request: Request, minutes: float, progress: Progress | None
) -> tuple[Callable[[float], Pace | None], Work]:
    """A function that measures a width, None where there is none, and how much there is to do."""
    recipe = request.recipe
    splits, own = first_classifier(request, progress)
    # As the run does when it opens: what would stop it there does so before anything is measured.
    require_no_errors(splits, recipe.data)
    fingerprint(splits)
    test = RangeTest()
    found = test.steps * test.seeds * recipe.train.batch_size if recipe.train.lr == "auto" else 0
    work = Work(len(splits.train), len(splits.validation), len(splits.test), found, 0.0)
    seconds = min(_LONGEST, max(_SHORTEST, _SHARE * 60 * minutes))
    # Most of a snapshot is drawing, so that one width tells of all.
    explaining = _explaining(own, splits.validation, request.snapshots)

    def measure(width: float) -> Pace | None:
        classifier = own
        if width != 1:
            try:
                model = widened(recipe.model, width)
            except RecipeError:
                return None
            classifier = untrained_classifier(model, splits, seed=recipe.train.seed)
        net = starting_net(classifier.net, recipe.transfer, recipe.train.epochs)
        setup = make_setup(recipe, splits, classifier)
        pace = measure_pace(replace(classifier, net=net), setup, width=width, seconds=seconds)
        return replace(pace, explaining=explaining)

    return measure, work


def _explaining(classifier: Classifier, validation: ImageSet, count: int) -> float:
    """Seconds of a snapshot of so many images."""
    if not count:
        return 0.0
    return snapshot_seconds(classifier, fixed_images(validation, count))


def _paces(
    measure: Callable[[float], Pace | None], is_enough: Callable[[Pace], bool]
) -> Iterator[Pace]:
    """The recipe's own width and those that tell, by halving, which is the widest for the time."""
    widest, too_wide, place = -1, len(WIDTHS), WIDTHS.index(1.0)
    while widest < place < too_wide:
        pace = measure(WIDTHS[place])
        if pace is None:
            return  # the width of this net is fixed
        yield pace
        widest, too_wide = (place, too_wide) if is_enough(pace) else (widest, place)
        place = (widest + too_wide) // 2


def _enough(width: float, recipe_epochs: int) -> int:
    return recipe_epochs if width > 1 else min(recipe_epochs, ENOUGH_EPOCHS)


def _whole_epochs(pace: Pace, seconds: float, work: Work) -> tuple[int, int]:
    """Whole epochs and the images of each: all, or fewer where whole epochs would waste time."""
    fitting = epochs_in(pace, seconds, work)
    if fitting >= MOST_EPOCHS:
        return MOST_EPOCHS, work.train
    if fitting >= ENOUGH_EPOCHS and fitting < (1 - _WASTE) * math.ceil(fitting):
        return math.floor(fitting), work.train
    epochs = max(1, math.ceil(fitting))
    beside = _epoch_seconds(pace, 0, work)
    images = pace.training * (_training_seconds(pace, seconds, work) / epochs - beside)
    if images < min(_FEWEST_IMAGES, work.train):
        shortest = _beside(pace, work) + (beside + _FEWEST_IMAGES / pace.training) / _SURE
        more = math.ceil((shortest - seconds) / 60)
        raise UsageError(
            f"--minutes is too short: reading, measuring and reporting leave {max(seconds, 0):.0f} "
            f"s here, and the shortest run takes {shortest:.0f} s. Give {more} more minutes, or a "
            "faster recipe."
        )
    return epochs, min(math.floor(images), work.train)


def _training_seconds(pace: Pace, seconds: float, work: Work) -> float:
    return _SURE * (seconds - _beside(pace, work))


def _beside(pace: Pace, work: Work) -> float:
    """Seconds of a run that are not of its epochs."""
    answering = (work.validation + work.test) / pace.answering
    # Each epoch has a snapshot, and the net before the first one.
    return work.seconds + answering + work.finder / pace.training + pace.explaining


def _epoch_seconds(pace: Pace, images: int, work: Work) -> float:
    validating = work.validation / pace.validating
    return images / pace.training + validating + pace.saving + pace.explaining
