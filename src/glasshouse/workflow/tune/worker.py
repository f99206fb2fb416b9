"""One trial of a search in its own process: trains and reports each epoch, never tests."""

import multiprocessing
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from glasshouse.errors import DivergedError, GlasshouseError
from glasshouse.recipe import parse_recipe
from glasshouse.runs import folder as runs
from glasshouse.storage import write_json
from glasshouse.training.state import Epoch
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
    """Validation accuracy after an epoch; the worker waits for the answer whether to continue."""

    epoch: int
    accuracy: float


@dataclass(frozen=True)
class Ended:
    """The value of the trial, or why there is none; was_pruned: it was stopped early."""

    value: float | None
    epochs: int
    problem: str = ""
    was_pruned: bool = False


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
            connection.send(_train(task, connection))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _train(task: Task, connection: Connection) -> Ended:
    try:
        return _train_and_report(task, connection)
    except DivergedError as error:
        return Ended(None, 0, str(error))
    except GlasshouseError as error:
        return Ended(None, 0, f"{type(error).__name__}: {error}")


def _train_and_report(task: Task, connection: Connection) -> Ended:
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
    is_wanted = True
    for epoch in experiment.state.history:
        is_wanted &= _is_wanted(epoch, connection)
    if is_wanted:
        for record in fit_experiment(experiment, _orphaned):
            if isinstance(record, Epoch) and not _is_wanted(record, connection):
                # After the last epoch there is nothing left to save, and a value to lose.
                is_wanted = record.epoch == recipe.train.epochs
                break
    ended = Ended(objective(experiment), len(experiment.state.history), was_pruned=not is_wanted)
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


def _is_wanted(epoch: Epoch, connection: Connection) -> bool:
    connection.send(Reached(epoch.epoch, epoch.validation_accuracy))
    return bool(connection.recv())


def objective(experiment: Experiment) -> float:
    """Validation accuracy of the weights that the trial ends with: best or last."""
    history = experiment.state.history
    if experiment.settings.keep == "best":
        return min(history, key=lambda epoch: epoch.validation_loss).validation_accuracy
    return history[-1].validation_accuracy
