"""One trial of a search in a process of its own: trains, reports each epoch, never tests."""

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
    """What a worker is asked to train: plain values, since it goes to another process."""

    source: str
    recipe: Mapping[str, Any]
    folder: Path
    data_dir: Path | None
    offline: bool


@dataclass(frozen=True)
class Reached:
    """Validation accuracy after an epoch; the worker waits to hear whether it shall go on."""

    epoch: int
    accuracy: float


@dataclass(frozen=True)
class Ended:
    """The trial's value, or why there is none; was_pruned when it was told to stop."""

    value: float | None
    epochs: int
    problem: str = ""
    was_pruned: bool = False


def work(connection: Connection, threads: int) -> None:
    """Train task after task until the other end closes; the entry of a worker process."""
    # A Ctrl-C reaches every process of the terminal; the one that hands out tasks decides.
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
    go_on = True
    for epoch in experiment.state.history:
        go_on &= _may_go_on(epoch, connection)
    if go_on:
        for record in fit_experiment(experiment, _orphaned):
            if isinstance(record, Epoch) and not _may_go_on(record, connection):
                # Stopping after the last epoch would save nothing and lose the value.
                go_on = record.epoch == recipe.train.epochs
                break
    ended = Ended(objective(experiment), len(experiment.state.history), was_pruned=not go_on)
    # Weights of thousands of trials would fill the disk; the recipe makes them again.
    shutil.rmtree(task.folder / runs.CHECKPOINTS, ignore_errors=True)
    write_json(task.folder / runs.TRIAL, {"value": ended.value, "epochs": ended.epochs})
    return ended


def _orphaned() -> int | None:
    """A signal once the search has died: nobody would receive the result.

    The state is saved, and the search that takes over resumes the trial.
    """
    search = multiprocessing.parent_process()
    return None if search is None or search.is_alive() else signal.SIGTERM


def _may_go_on(epoch: Epoch, connection: Connection) -> bool:
    connection.send(Reached(epoch.epoch, epoch.validation_accuracy))
    return bool(connection.recv())


def objective(experiment: Experiment) -> float:
    """Validation accuracy of the weights that training would end with: best or last."""
    history = experiment.state.history
    if experiment.settings.keep == "best":
        return min(history, key=lambda epoch: epoch.validation_loss).validation_accuracy
    return history[-1].validation_accuracy
