"""Run an experiment with progress on the terminal."""

import signal
import time
from itertools import zip_longest
from typing import TYPE_CHECKING

from glasshouse.cli.metrics_text import value_with_interval
from glasshouse.cli.progress_bars import data_progress, say
from glasshouse.cli.signals import catch_signals
from glasshouse.wording import duration, pluralize

if TYPE_CHECKING:
    from glasshouse.cluster.piecework import Piecework
    from glasshouse.evaluation.evaluation import AnyEvaluation
    from glasshouse.workflow.train.experiment import Result, TrainRequest


def run_to_the_end(
    request: "TrainRequest", *, is_kept: bool = True, piecework: "Piecework | None" = None
) -> "Result":
    """Open, fit and finish with progress; a signal saves the state and raises Interrupted.

    is_kept: False for a temporary folder, whose path is then not printed. piecework: computes
    blocks of features elsewhere, where the recipe asks for features.
    """
    if request.recipe.transfer.way == "features":
        result = _run_features(request, is_kept, piecework)
    else:
        result = _train(request, is_kept)
    say_how_it_ended(request, result.evaluation, len(result.predictions), is_kept=is_kept)
    return result


def say_how_it_ended(
    request: "TrainRequest", evaluation: "AnyEvaluation", count: int, *, is_kept: bool = True
) -> None:
    """Print the main metric, and where the report is; count: of test images."""
    say(headline(evaluation, count))
    if is_kept:
        say(f"report: {request.out / 'report.html'}")


def _train(request: "TrainRequest", is_kept: bool) -> "Result":
    from glasshouse.training.fit import describe_early_end
    from glasshouse.training.watch import show_training
    from glasshouse.workflow.train.announcement import what_will_be_done
    from glasshouse.workflow.train.experiment import (
        finish_experiment,
        fit_experiment,
        open_experiment,
    )
    from glasshouse.workflow.train.logs import logged, open_logs

    with data_progress() as progress:
        experiment = open_experiment(request, progress)
    for line in what_will_be_done(experiment, f"{experiment.folder}: " if is_kept else ""):
        say(line)
    epochs = request.recipe.train.epochs
    with open_logs(request.logs, request, experiment.state.history) as log:
        with catch_signals() as signal_received:
            show_training(logged(fit_experiment(experiment, signal_received), log), epochs)
        losses = [epoch.validation_loss for epoch in experiment.state.history]
        ended = describe_early_end(experiment.settings, losses)
        if ended is not None:
            say(ended)
        result = finish_experiment(experiment)
        log.result(result.evaluation)
    return result


def fit_request(
    request: "TrainRequest", minutes: float, *, started: float, runs: int
) -> "TrainRequest":
    """Fit the recipe to a time budget that began at `started`, and print the plan."""
    from glasshouse.runs.holding import release
    from glasshouse.workflow.train.time_budget import fit_to_minutes
    from glasshouse.workflow.train.time_plan import describe_budget

    try:
        with data_progress() as progress:
            fitted, budget = fit_to_minutes(
                request, minutes, started=started, runs=runs, progress=progress
            )
    except BaseException:
        # A folder that is still empty would look like a run.
        release(request.out)
        raise
    say(describe_budget(budget))
    return fitted


def say_time_used(minutes: float, started: float) -> None:
    """Print how much of the time budget was used, and by how much it was exceeded."""
    seconds = time.monotonic() - started
    late = seconds - 60 * minutes
    text = f"{duration(seconds)} of {duration(60 * minutes)} used"
    say(
        text
        if late <= 0
        else f"{text}: {late:.0f} s over, because training ran slower than the benchmark"
    )


def _run_features(
    request: "TrainRequest", is_kept: bool, piecework: "Piecework | None"
) -> "Result":
    from glasshouse.errors import Interrupted
    from glasshouse.workflow.train.announcement import what_was_read
    from glasshouse.workflow.train.feature_run import run_features
    from glasshouse.workflow.train.logs import open_logs
    from glasshouse.workflow.train.request import resume_command_of

    try:
        with data_progress() as progress:
            run = run_features(request, progress, piecework=piecework)
    except (KeyboardInterrupt, Interrupted) as stopped:
        # Only work on a cluster notes a signal, and says which.
        number = stopped.exit_code - 128 if isinstance(stopped, Interrupted) else signal.SIGINT
        how = f" Resume with: {resume_command_of(request)}" if is_kept else ""
        raise Interrupted(
            f"stopped; the features computed so far are cached.{how}", number
        ) from stopped
    with open_logs(request.logs, request, ()) as log:
        log.result(run.result.evaluation)
    for line in what_was_read(run.splits):
        say(line)
    for fitted, loss in zip_longest(run.choice.fits, run.choice.fold_losses):
        kept = ", kept" * (fitted is run.choice.best)
        folds = "" if loss is None else f", cross-validation loss {loss:.4f}"
        say(f"head {fitted.describe()}{folds}{kept}")
    say(f"features computed in {run.feature_seconds:.1f} s and cached for other heads")
    return run.result


def headline(evaluation: "AnyEvaluation", count: int) -> str:
    """The main test metric with its confidence interval, in one line; count: of test images."""
    from glasshouse.evaluation.multi_label import MultiLabelEvaluation

    images = pluralize(count, "image")
    if isinstance(evaluation, MultiLabelEvaluation):
        found = value_with_interval(evaluation.mean_average_precision)
        return f"test mean average precision {found}, 95 % confidence interval, on {images}"
    return f"test accuracy {evaluation.accuracy}, 95 % confidence interval, on {images}"
