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
    from glasshouse.data.images import Splits
    from glasshouse.workflow.train.experiment import Experiment, Result, TrainRequest

_FEW_UPDATES = 100


def run_to_the_end(request: "TrainRequest", *, is_kept: bool = True) -> "Result":
    """Open, fit and finish with progress; a signal saves the state and raises Interrupted.

    is_kept: False for a temporary folder, whose path is then not printed.
    """
    train = _run_features if request.recipe.transfer.way == "features" else _train
    result = train(request, is_kept)
    say(headline(result))
    if is_kept:
        say(f"report: {request.out / 'report.html'}")
    return result


def _train(request: "TrainRequest", is_kept: bool) -> "Result":
    from glasshouse.training.fit import describe_early_end
    from glasshouse.training.watch import show_training
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


def _run_features(request: "TrainRequest", is_kept: bool) -> "Result":
    from glasshouse.errors import Interrupted
    from glasshouse.workflow.train.feature_run import run_features
    from glasshouse.workflow.train.logs import open_logs
    from glasshouse.workflow.train.request import resume_command_of

    try:
        with data_progress() as progress:
            run = run_features(request, progress)
    except KeyboardInterrupt as stopped:
        how = f" Resume with: {resume_command_of(request)}" if is_kept else ""
        raise Interrupted(
            f"stopped; the features computed so far are cached.{how}", signal.SIGINT
        ) from stopped
    with open_logs(request.logs, request, ()) as log:
        log.result(run.result.evaluation)
    _say_what_was_read(run.splits)
    for fitted, loss in zip_longest(run.choice.fits, run.choice.fold_losses):
        kept = ", kept" * (fitted is run.choice.best)
        folds = "" if loss is None else f", cross-validation loss {loss:.4f}"
        say(f"head {fitted.describe()}{folds}{kept}")
    say(f"features computed in {run.feature_seconds:.1f} s and cached for other heads")
    return run.result


def headline(result: "Result") -> str:
    """The main test metric with its confidence interval, in one line."""
    from glasshouse.evaluation.multi_label import MultiLabelEvaluation

    if isinstance(result.evaluation, MultiLabelEvaluation):
        found = value_with_interval(result.evaluation.mean_average_precision)
        images = pluralize(len(result.predictions), "image")
        return f"test mean average precision {found}, 95 % confidence interval, on {images}"
    accuracy = str(result.evaluation.accuracy)
    images = pluralize(len(result.predictions), "image")
    return f"test accuracy {accuracy}, 95 % confidence interval, on {images}"


def _say_what_was_read(splits: "Splits") -> None:
    for note in splits.notes:
        say(f"note: {note}")
    for bad in splits.bad_files:
        say(f"skipped {bad.path}: {bad.reason}")


def _say_what_will_be_done(experiment: "Experiment", where: str) -> None:
    from glasshouse.data.batches import step_count
    from glasshouse.data.class_names import are_characters
    from glasshouse.training.thread_choice import describe_threads
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
    train = recipe.train
    updates = train.epochs * step_count(len(splits.train), train.batch_size, train.shards)
    if updates < _FEW_UPDATES:
        say(
            f"note: {pluralize(updates, 'update')} in all is too few to learn much; for a small "
            "data set, raise train.epochs or lower train.batch_size with --set"
        )
    if recipe.augment.horizontal_flip and are_characters(splits.class_names):
        say(
            "note: half of the images are mirrored in each epoch; if the classes are digits or "
            "letters, as their names suggest, use --set augment.horizontal_flip=false"
        )
    if experiment.found_rate is not None:
        say(f"learning rate {describe_found_rate(experiment.found_rate)}")
    if experiment.threads.is_reduced:
        say(describe_threads(experiment.threads))
    if experiment.resumed_epochs:
        say(f"resuming after epoch {experiment.resumed_epochs}")
