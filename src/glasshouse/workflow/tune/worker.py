"""One trial of a search, elsewhere: trains and reports each epoch, never tests."""

import multiprocessing
import shutil
import signal
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from glasshouse.errors import (
    DataError,
    DivergedError,
    GlasshouseError,
    GpuMemoryError,
    naming_full_gpu,
)
from glasshouse.evaluation.multi_label import mean_average_precision
from glasshouse.models.predict import predict
from glasshouse.recipe import parse_recipe
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json, write_json
from glasshouse.training.state import Epoch, using_weights
from glasshouse.wording import ACCURACY, PRECISION
from glasshouse.workflow.train.experiment import (
    Experiment,
    TrainRequest,
    fit_experiment,
    open_experiment,
)


@dataclass(frozen=True)
class Task:
    """What a worker is to train: plain values, because it is sent to another process."""

    source: str
    recipe: Mapping[str, Any]
    folder: Path
    data_dir: Path | None
    offline: bool


@dataclass(frozen=True)
class Reached:
    """The validation score of an epoch; the worker waits for the answer whether to continue."""

    epoch: int
    score: float


@dataclass(frozen=True)
class Ended:
    """The value of the trial, or why there is none; was_pruned: it was stopped early.

    metric: what the value is: accuracy, or mean average precision where an image may have several
    labels.
    """

    value: float | None
    epochs: int
    problem: str = ""
    was_pruned: bool = False
    metric: str = ACCURACY


Messages = Generator[Reached | Ended, bool, None]


def work(connection: Connection, threads: int) -> None:
    """Train task after task until the other end closes; the entry point of a worker process."""
    # Ctrl-C reaches every process of the terminal; the one that assigns trials decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            _converse(connection, trial_messages(task))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _converse(connection: Connection, messages: Messages) -> None:
    message = next(messages)
    connection.send(message)
    while isinstance(message, Reached):
        message = messages.send(bool(connection.recv()))
        connection.send(message)


def trial_messages(task: Task) -> Messages:
    """Train a trial: yields what each epoch reached, is sent whether to continue, ends with Ended.

    An error is the end of the trial, and never raised.
    """
    try:
        with naming_full_gpu():
            ended = yield from _trained(task)
        yield ended
    except (DivergedError, GpuMemoryError) as error:
        yield Ended(None, 0, str(error))
    except GlasshouseError as error:
        yield Ended(None, 0, f"{type(error).__name__}: {error}")


def _trained(task: Task) -> Generator[Reached | Ended, bool, Ended]:
    recipe = parse_recipe(task.recipe)
    request = TrainRequest(
        source=task.source,
        recipe=recipe,
        out=task.folder,
        resume=True,
        data_dir=task.data_dir,
        offline=task.offline,
    )
    experiment = open_experiment(request)
    scores = EpochScores(experiment)
    is_wanted = True
    for epoch in experiment.state.history:
        is_wanted &= yield _reached(epoch, scores)
    if is_wanted:
        for record in fit_experiment(experiment, _orphaned):
            if isinstance(record, Epoch) and not (yield _reached(record, scores)):
                # After the last epoch there is nothing left to save, and a value to lose.
                is_wanted = record.epoch == recipe.train.epochs
                break
    ended = Ended(
        objective(experiment, scores),
        len(experiment.state.history),
        was_pruned=not is_wanted,
        metric=scores.metric,
    )
    # Checkpoints of thousands of trials would fill the disk; the recipe can repeat any of them.
    shutil.rmtree(task.folder / runs.CHECKPOINTS, ignore_errors=True)
    write_json(task.folder / runs.TRIAL, {"value": ended.value, "epochs": ended.epochs})
    return ended


def _orphaned() -> int | None:
    """A signal once the search has died: nobody would receive the result.

    The state is saved, and the search that takes over resumes the trial.
    """
    search = multiprocessing.parent_process()
    return None if search is None or search.is_alive() else signal.SIGTERM


def _reached(epoch: Epoch, scores: "EpochScores") -> Reached:
    return Reached(epoch.epoch, scores.of(epoch))


class EpochScores:
    """What a search maximises, after each epoch of a trial.

    The validation accuracy; where images may have several labels, the mean average precision on the
    validation split, kept in the trial's folder, since a resumed trial has other weights by then.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.metric = PRECISION if experiment.classifier.is_multi_label else ACCURACY
        self.path = experiment.folder / runs.EPOCH_SCORES
        self.known: dict[str, float] = read_json(self.path) if self.path.is_file() else {}

    def of(self, epoch: Epoch) -> float:
        """The score of an epoch; measured now unless it is known."""
        if self.metric == ACCURACY:
            return epoch.validation_accuracy
        key = str(epoch.epoch)
        if key not in self.known:
            self.known[key] = _mean_average_precision(self.experiment)
            write_json(self.path, self.known)
        return self.known[key]


def _mean_average_precision(experiment: Experiment) -> float:
    state, images = experiment.state, experiment.splits.validation
    if not images.label_matrix.any():
        raise DataError(
            "no image of the validation split has a label, so that no mean average precision can "
            "be measured: add some, or raise data.validation_fraction"
        )
    with using_weights(state.net, state.averaged):
        found = predict(replace(experiment.classifier, net=state.net), images)
    return mean_average_precision(found.label_matrix, found.probabilities)


def objective(experiment: Experiment, scores: EpochScores) -> float:
    """The validation score of the weights that the trial ends with: best or last."""
    history = experiment.state.history
    if experiment.settings.keep == "best":
        return scores.of(min(history, key=lambda epoch: epoch.validation_loss))
    return scores.of(history[-1])
