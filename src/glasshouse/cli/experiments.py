"""Run an experiment with progress on the terminal."""

import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from glasshouse.cli.figures import with_interval
from glasshouse.cli.progress_bars import data_progress, say, show_training
from glasshouse.cli.signals import catch_signals
from glasshouse.wording import duration

if TYPE_CHECKING:
    from glasshouse.data.images import Splits
    from glasshouse.workflow.train.experiment import Experiment, Request, Result
    from glasshouse.workflow.train.logs import LogName

_FEW_UPDATES = 100


def run_to_the_end(
    request: "Request", logs: "Sequence[LogName]" = (), *, is_kept: bool = True
) -> "Result":
    """Open, fit and finish, saying what is done; signals save the state and raise Interrupted.

    logs: where copies of the figures go besides. is_kept: False where nobody can look at the folder
    afterwards, so that its path is not worth a word.
    """
    train = _run_features if request.recipe.transfer.way == "features" else _train
    result = train(request, logs, is_kept)
    say(headline(result))
    if is_kept:
        say(f"report: {request.out / 'report.html'}")
    return result


def _train(request: "Request", logs: "Sequence[LogName]", is_kept: bool) -> "Result":
    from glasshouse.workflow.train.experiment import (
        finish_experiment,
        fit_experiment,
        open_experiment,
    )
    from glasshouse.workflow.train.logs import logged, open_logs

    with data_progress() as progress:
        experiment = open_experiment(request, progress)
    _say_what_will_be_done(experiment, f"{experiment.folder}: " if is_kept else "")
    epochs = request.recipe.train.epochs
    with open_logs(logs, request, experiment.state.history) as log:
        with catch_signals() as signal_received:
            show_training(logged(fit_experiment(experiment, signal_received), log), epochs)
        result = finish_experiment(experiment)
        log.result(result.evaluation)
    return result


def fit_request(request: "Request", minutes: float, *, started: float, runs: int) -> "Request":
    """Measure the machine, fit the recipe to the minutes since started, and say what was chosen."""
    from glasshouse.workflow.train.time_budget import describe_budget, fit_to_minutes

    with data_progress() as progress:
        fitted, budget = fit_to_minutes(
            request, minutes, started=started, runs=runs, progress=progress
        )
    say(describe_budget(budget))
    return fitted


def say_time_used(minutes: float, started: float) -> None:
    """How much of the minutes was used, and whether it was too much."""
    seconds = time.monotonic() - started
    late = seconds - 60 * minutes
    text = f"{duration(seconds)} of {duration(60 * minutes)} used"
    say(text if late <= 0 else f"{text}: late by {late:.0f} s, slower than it was measured")


def _run_features(request: "Request", logs: "Sequence[LogName]", is_kept: bool) -> "Result":
    from glasshouse.workflow.train.feature_run import run_features
    from glasshouse.workflow.train.logs import open_logs

    try:
        with data_progress() as progress:
            run = run_features(request, progress)
    except KeyboardInterrupt:
        how = f" and --out {request.out} --resume" if is_kept else ""
        say(f"stopped; the features that were computed are kept. Go on with the same command{how}")
        raise
    with open_logs(logs, request, ()) as log:
        log.result(run.result.evaluation)
    _say_what_was_read(run.splits)
    for fitted, loss in zip_longest(run.choice.fits, run.choice.fold_losses):
        kept = ", kept" * (fitted is run.choice.best)
        folds = "" if loss is None else f", over folds {loss:.4f}"
        say(f"head {fitted.describe()}{folds}{kept}")
    say(f"features in {run.feature_seconds:.1f} s; kept for the next heads")
    return run.result


def headline(result: "Result") -> str:
    """The figure that matters, with its interval."""
    accuracy = with_interval(result.evaluation.accuracy)
    return f"test accuracy {accuracy}, 95 % interval, on {len(result.predictions):,} images"


def _say_what_was_read(splits: "Splits") -> None:
    for note in splits.notes:
        say(f"note: {note}")
    for bad in splits.bad_files:
        say(f"left out: {bad.path}: {bad.reason}")


def _say_what_will_be_done(experiment: "Experiment", where: str) -> None:
    from glasshouse.data.batches import step_count
    from glasshouse.workflow.train.learning_rate import describe_found_rate

    splits, recipe = experiment.splits, experiment.request.recipe
    _say_what_was_read(splits)
    parameters = sum(p.numel() for p in experiment.classifier.net.parameters())
    say(
        f"{where}recipe {recipe.name}, {parameters:,} parameters, "
        f"{len(splits.class_names)} classes, {len(splits.train):,} training, "
        f"{len(splits.validation):,} validation and {len(splits.test):,} test images of "
        f"{splits.train.width}x{splits.train.height}"
    )
    updates = recipe.train.epochs * step_count(len(splits.train), recipe.train.batch_size)
    if updates < _FEW_UPDATES:
        say(
            f"note: so few updates in all ({updates}) teach little; for a small set, raise "
            "train.epochs or lower train.batch_size with --set"
        )
    if experiment.found_rate is not None:
        say(f"learning rate {describe_found_rate(experiment.found_rate)}")
    if experiment.resumed_epochs:
        say(f"going on after epoch {experiment.resumed_epochs}")
