"""One recipe with several seeds, each in a run folder of its own, and what they come to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from glasshouse.errors import Interrupted, UsageError
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.over_seeds import mean_over_seeds
from glasshouse.runs import folder as runs
from glasshouse.storage import write_json
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)

Runner = Callable[[TrainRequest], object]


@dataclass(frozen=True)
class SeedSummary:
    """Test accuracy and loss over seeds; intervals are None for one seed, deviations likewise."""

    folders: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: float
    accuracy_interval: Interval | None
    accuracy_deviation: float | None
    losses: tuple[float, ...]
    loss: float
    loss_interval: Interval | None
    seconds: float


def run_quietly(request: TrainRequest) -> None:
    """Open, fit and finish, without a word."""
    experiment = open_experiment(request)
    for _ in fit_experiment(experiment):
        pass
    finish_experiment(experiment)


def seed_requests(request: TrainRequest, count: int) -> tuple[TrainRequest, ...]:
    """The same experiment with ``count`` seeds from the recipe's own on, in OUT/seed-N."""
    if count < 1:
        raise UsageError(f"--seeds: expected 1 or more, received {count}")
    train = request.recipe.train
    numbers = range(train.seed, train.seed + count)
    return tuple(
        replace(
            request,
            recipe=request.recipe.model_copy(
                update={"train": train.model_copy(update={"seed": number})}
            ),
            out=request.out / runs.SEED_FOLDER.format(number),
        )
        for number in numbers
    )


def run_all(requests: Sequence[TrainRequest], run: Runner = run_quietly) -> tuple[runs.Run, ...]:
    """Every run, made where it is not finished yet; a finished folder is kept as it is.

    Raises UsageError when a folder was started with another recipe.
    """
    for request in requests:
        if not is_finished(request):
            _run_or_explain(request, run)
    return tuple(runs.read_run(request.out) for request in requests)


def _run_or_explain(request: TrainRequest, run: Runner) -> None:
    try:
        run(replace(request, resume=True))
    except Interrupted as stopped:
        # The inner advice is for this one folder; the user asked for several.
        how = "" if request.resume else " with --resume"
        raise Interrupted(
            f"stopped in {request.out}; everything is saved. The same command{how} goes on.",
            stopped.exit_code - 128,
        ) from stopped


def is_finished(request: TrainRequest) -> bool:
    """True when the folder holds the finished run of this recipe on this source."""
    if not (request.out / runs.REPORT).is_file():
        return False
    run = runs.read_run(request.out)
    same_source = run.environment["data"]["source"] == request.source
    # Another recipe is left to open_experiment, whose error names the difference.
    return run.is_finished and same_source and run.recipe == request.recipe


def train_seeds(request: TrainRequest, count: int, run: Runner = run_quietly) -> SeedSummary:
    """Train with ``count`` seeds and write seeds.json; goes on where it was stopped.

    Raises UsageError when the folder is not empty and resume is not asked for.
    """
    if not request.resume:
        runs.claim(request.out, resume=False)
    summary = summarize_seeds(run_all(seed_requests(request, count), run))
    write_json(request.out / runs.SEEDS, asdict(summary))
    return summary


def summarize_seeds(finished: Sequence[runs.Run]) -> SeedSummary:
    """Mean and t-interval of the runs' test figures; raises UsageError for an unfinished run."""
    figures = [_figures(run) for run in finished]
    accuracies = np.array([accuracy for accuracy, _, _ in figures])
    losses = np.array([loss for _, loss, _ in figures])
    several = len(finished) > 1
    return SeedSummary(
        folders=tuple(run.folder.name for run in finished),
        seeds=tuple(run.recipe.train.seed for run in finished),
        accuracies=tuple(accuracies.tolist()),
        accuracy=float(accuracies.mean()),
        accuracy_interval=mean_over_seeds(accuracies).within(0, 1) if several else None,
        accuracy_deviation=float(accuracies.std(ddof=1)) if several else None,
        losses=tuple(losses.tolist()),
        loss=float(losses.mean()),
        loss_interval=mean_over_seeds(losses).within(0, math.inf) if several else None,
        seconds=sum(seconds for _, _, seconds in figures) / len(figures),
    )


def seconds_of(run: runs.Run) -> float:
    """Seconds of training alone, and of the range test where there was one."""
    return run.seconds + run.finder_seconds


def _figures(run: runs.Run) -> tuple[float, float, float]:
    if run.evaluation is None:
        raise UsageError(f"{run.folder} has not finished training")
    evaluation = run.evaluation
    return evaluation["accuracy"]["value"], evaluation["before"]["loss"], seconds_of(run)
