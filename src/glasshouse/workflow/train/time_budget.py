"""A recipe fitted to a time budget: this machine is measured, then width and epochs are chosen.

The outcome is an ordinary recipe, so that the run can be resumed and reproduced like any other.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

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
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier, make_setup
from glasshouse.workflow.train.snapshots import fixed_images, snapshot_seconds
from glasshouse.workflow.train.time_plan import (
    Budget,
    TimePlan,
    Work,
    choose_plan,
    enough_epochs,
    epochs_in,
)
from glasshouse.workflow.use.source_check import require_no_errors

# Factors of the recipe's width.
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# Seconds to start Python before the clock can be read, and to exit after the report.
_AROUND = 3.0
# Seconds of measuring one width: a share of the budget, within these bounds.
_SHARE, _SHORTEST, _LONGEST = 0.01, 0.5, 2.0
# A whole report takes as long as this many of its figures.
_FIGURES = 20.0


def fit_to_minutes(
    request: TrainRequest,
    minutes: float,
    *,
    started: float,
    runs: int = 1,
    progress: Progress | None = None,
) -> tuple[TrainRequest, Budget]:
    """Measure this machine for a few seconds, and fit the recipe to what is left of the budget.

    started: the time.monotonic() from which the minutes count. Several runs share the time
    equally. Raises UsageError when the time is too short for any training.
    """
    recipe = request.recipe
    _require_fittable(recipe, minutes)
    opened = time.monotonic()
    measure, work = _measuring(request, minutes, progress)
    # The run itself will read the images once more.
    reading = time.monotonic() - opened
    work = replace(work, seconds=round(reading + report_seconds() + _AROUND / runs, 2))

    def left() -> float:
        return (60 * minutes - (time.monotonic() - started)) / runs

    own = recipe.train.epochs
    paces = tuple(
        _paces(
            measure, lambda pace: epochs_in(pace, left(), work) >= enough_epochs(pace.width, own)
        )
    )
    budget = Budget(
        minutes=minutes,
        runs=runs,
        plan=choose_plan(paces, left(), work, own),
        seconds_before=round(time.monotonic() - started, 1),
        work=work,
        paces=paces,
    )
    fitted = fitted_recipe(recipe, budget.plan, minutes, whole=work.train)
    return replace(request, recipe=fitted, budget=asdict(budget)), budget


def fitted_recipe(recipe: Recipe, plan: TimePlan, minutes: float, *, whole: int) -> Recipe:
    """The recipe with the width, epochs and images of a plan, its learning rate annealed.

    whole: the number of training images there are.
    """
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


def report_seconds() -> float:
    """How long metrics and report of a run take here, estimated from one of its figures."""
    names = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "lr")
    epochs = [{"epoch": number, **dict.fromkeys(names, 0.5)} for number in (1, 2)]
    figure_png(plots.plot_curves(epochs))  # imports and fonts, once per process
    started = time.perf_counter()
    figure_png(plots.plot_curves(epochs))
    return _FIGURES * (time.perf_counter() - started)


def _require_fittable(recipe: Recipe, minutes: float) -> None:
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes: expected a number above 0, received {minutes:g}")
    if recipe.transfer.way == "features":
        raise UsageError(
            f"--minutes: recipe {recipe.name} has no epochs to fit to a time; train without it"
        )


def _measuring(
    request: TrainRequest, minutes: float, progress: Progress | None
) -> tuple[Callable[[float], Pace | None], Work]:
    """A function that measures a width, or returns None where it is fixed, and the work to do."""
    recipe = request.recipe
    splits, own = first_classifier(request, progress)
    # What would stop the run when it opens stops it here, before anything is measured.
    require_no_errors(splits, recipe.data)
    fingerprint(splits)
    test = RangeTest()
    found = test.steps * test.seeds * recipe.train.batch_size if recipe.train.lr == "auto" else 0
    work = Work(
        train=len(splits.train),
        validation=len(splits.validation),
        test=len(splits.test),
        finder=found,
        seconds=0.0,
    )
    seconds = min(_LONGEST, max(_SHORTEST, _SHARE * 60 * minutes))
    # Most of a snapshot is drawing, so one width is representative of all.
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
    """Seconds of one snapshot of ``count`` images."""
    if not count:
        return 0.0
    return snapshot_seconds(classifier, fixed_images(validation, count))


def _paces(
    measure: Callable[[float], Pace | None], is_enough: Callable[[Pace], bool]
) -> Iterator[Pace]:
    """The recipe's own width first, then a binary search for the widest that is fast enough."""
    widest, too_wide, place = -1, len(WIDTHS), WIDTHS.index(1.0)
    while widest < place < too_wide:
        pace = measure(WIDTHS[place])
        if pace is None:
            return  # the width of this network is fixed
        yield pace
        widest, too_wide = (place, too_wide) if is_enough(pace) else (widest, place)
        place = (widest + too_wide) // 2
