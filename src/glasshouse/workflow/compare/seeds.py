"""One recipe trained with several seeds, each in its own run folder, and their summary."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from glasshouse.errors import Interrupted, UsageError
from glasshouse.evaluation.intervals import Interval
from glasshouse.evaluation.over_seeds import mean_over_seeds
from glasshouse.runs import folder as runs
from glasshouse.runs.records import main_metric
from glasshouse.storage import remove_unfinished, write_json
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.train.request import is_finished, resume_command_of

Runner = Callable[[TrainRequest], object]


@dataclass(frozen=True)
class SeedSummary:
    """The test metric and loss over seeds; intervals and deviation are None for a single seed.

    metric: what scores are: accuracy, or mean average precision where an image may have several
    labels. seconds: mean training time of a run.
    """

    folders: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    scores: tuple[float, ...]
    score: float
    score_interval: Interval | None
    score_deviation: float | None
    losses: tuple[float, ...]
    loss: float
    loss_interval: Interval | None
    seconds: float


def run_quietly(request: TrainRequest) -> None:
    """Open, fit and finish without printing anything."""
    experiment = open_experiment(request)
    for _ in fit_experiment(experiment):
        pass
    finish_experiment(experiment)


def seed_requests(request: TrainRequest, count: int) -> tuple[TrainRequest, ...]:
    """The same request with ``count`` seeds, counted from the recipe's own, in OUT/seed-N."""
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


def run_all(
    requests: Sequence[TrainRequest],
    run: Runner = run_quietly,
    *,
    how: str = "The same command resumes.",
) -> tuple[runs.Run, ...]:
    """Every run, trained or resumed unless it is finished already.

    run: trains one request; ``run_quietly`` or a function with progress. how: what Interrupted
    advises. Raises UsageError when a folder was started with another recipe.
    """
    for request in requests:
        if not is_finished(request):
            _run_or_explain(request, run, how)
    return tuple(runs.read_run(request.out) for request in requests)


def _run_or_explain(request: TrainRequest, run: Runner, how: str) -> None:
    try:
        run(replace(request, resume=True))
    except Interrupted as stopped:
        # The advice of the inner error is for one folder, but the user started several.
        raise Interrupted(
            f"stopped in {request.out}; everything is saved. {how}", stopped.exit_code - 128
        ) from stopped


def train_seeds(request: TrainRequest, count: int, run: Runner = run_quietly) -> SeedSummary:
    """Train with ``count`` seeds and write seeds.json; finished runs are kept.

    Raises UsageError when the folder is not empty and ``request.resume`` is False.
    """
    if not request.resume:
        runs.claim(request.out, resume=False)
    how = f"Resume with: {resume_command_of(request, count)}"
    summary = summarize_seeds(run_all(seed_requests(request, count), run, how=how))
    remove_unfinished(request.out)
    write_json(request.out / runs.SEEDS, asdict(summary))
    return summary


def summarize_seeds(finished: Sequence[runs.Run]) -> SeedSummary:
    """Mean and t-interval of the runs' test metrics; raises UsageError for an unfinished run."""
    metrics = [_test_metrics(run) for run in finished]
    scores = np.array([score for score, _, _ in metrics])
    losses = np.array([loss for _, loss, _ in metrics])
    several = len(finished) > 1
    return SeedSummary(
        folders=tuple(run.folder.name for run in finished),
        seeds=tuple(run.recipe.train.seed for run in finished),
        metric=main_metric(evaluation_of(finished[0]))[0],
        scores=tuple(scores.tolist()),
        score=float(scores.mean()),
        score_interval=mean_over_seeds(scores).within(0, 1) if several else None,
        score_deviation=float(scores.std(ddof=1)) if several else None,
        losses=tuple(losses.tolist()),
        loss=float(losses.mean()),
        loss_interval=mean_over_seeds(losses).within(0, math.inf) if several else None,
        seconds=sum(seconds for _, _, seconds in metrics) / len(metrics),
    )


def seconds_of(run: runs.Run) -> float:
    """Seconds of training, and of the range test where there was one."""
    return run.seconds + run.finder_seconds


def _test_metrics(run: runs.Run) -> tuple[float, float, float]:
    evaluation = evaluation_of(run)
    return main_metric(evaluation)[1]["value"], evaluation["before"]["loss"], seconds_of(run)


def evaluation_of(run: runs.Run) -> dict[str, Any]:
    """The metrics of a run; raises UsageError when it has not finished training."""
    if run.evaluation is None:
        raise UsageError(f"{run.folder} has not finished training")
    return run.evaluation
