"""Trials on the machines of a cluster."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glasshouse.cluster.folders import (
    Files,
    Parcel,
    files_to_send,
    put_in_place,
    read_files,
    unpacked,
)
from glasshouse.cluster.pieces import Cluster, Outcome, Terms, opened, run_piece
from glasshouse.data.sources import absolute_source, require_source
from glasshouse.runs import folder as runs
from glasshouse.workflow.train.same_images import SameImages
from glasshouse.workflow.tune.crew import Worker
from glasshouse.workflow.tune.worker import Ended, Messages, Reached, Task, trial_messages


@dataclass(frozen=True)
class Sent:
    """The end of a trial with the files of its folder, unless they are where they belong."""

    ended: Ended
    files: Files | None


class Trainer:
    """Trains trials on a machine of the cluster, each epoch of which is asked for."""

    def begin(self, terms: Terms, task: Task, parcel: Parcel) -> Outcome:
        """Train a trial up to its first message."""
        self.terms = terms
        self.messages = messages_there(task, parcel)
        return run_piece(terms, next, self.messages)

    def resume(self, is_wanted: bool) -> Outcome:
        """Train up to the next message, if that is wanted."""
        return run_piece(self.terms, self.messages.send, is_wanted)


def messages_there(task: Task, parcel: Parcel) -> Generator[Reached | Sent, bool, None]:
    """The messages of a trial, on the machine that trains it.

    Raises DataError where it has not got the images, which is no fault of the trial.
    """
    require_source(task.source, offline=task.offline)
    with unpacked(parcel) as folder:
        messages: Messages = trial_messages(replace(task, folder=folder))
        message = next(messages)
        while isinstance(message, Reached):
            message = messages.send((yield message))
        yield Sent(message, files_to_send(parcel, folder))


@dataclass
class ClusterWorker:
    """An actor of Ray, which lives while there are trials for it."""

    crew: "ClusterCrew"
    actor: Any = None
    answer: Any = None
    folder: Path = field(default_factory=Path)

    def send(self, message: Task | bool) -> None:
        """Send a message; what has become of the machine shows when it is answered."""
        if not isinstance(message, Task):
            self.answer = self.actor.resume.remote(message)
            return
        cluster = self.crew.cluster
        if self.actor is None:
            # An actor that cannot be placed yet waits for the cores of one that rests.
            trainer = cluster.ray.remote(Trainer).options(max_restarts=0, **cluster.options())
            self.actor = trainer.remote()
        task = _from_anywhere(message)
        self.folder = task.folder
        parcel = Parcel(task.folder, *self.crew.marker, read_files(task.folder))
        self.answer = self.actor.begin.remote(cluster.terms, task, parcel)

    def recv(self) -> Reached | Ended:
        """What the actor says; raises EOFError where its process or machine was lost."""
        ray = self.crew.cluster.ray
        try:
            outcome: Outcome = ray.get(self.answer)
        except ray.exceptions.RayTaskError:
            raise  # a fault in the code, with its traceback
        # Not only of a dead actor: where memory ran out, or its node took the answer along, Ray
        # raises errors of other classes.
        except ray.exceptions.RayError as error:
            raise EOFError(str(error)) from error
        message: Reached | Sent = opened(outcome)
        if isinstance(message, Reached):
            return message
        if message.files is not None:
            put_in_place(message.files, self.folder)
        if (self.folder / runs.ENVIRONMENT).is_file():
            self.crew.images.require(self.folder)
        return message.ended

    def rest(self) -> None:
        """Leave the cores to others."""
        if self.actor is not None:
            self.crew.cluster.ray.kill(self.actor)
            self.actor = None

    def stop(self) -> None:
        """End the actor."""
        self.rest()

    def join(self, seconds: float) -> None:
        """The actor is gone at once."""


@dataclass(frozen=True)
class ClusterCrew:
    """Actors of a cluster; marker: by which its machines see whether they share a disk."""

    cluster: Cluster
    marker: tuple[Path, str]
    size: int
    images: SameImages = field(default_factory=SameImages)

    def start(self) -> ClusterWorker:
        """A new worker, whose actor is made with its first trial."""
        return ClusterWorker(self)

    def ready(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
        """Those whose answer is there, or will not be."""
        own = {w.answer: w for w in workers if isinstance(w, ClusterWorker)}
        return [own[answer] for answer in self.cluster.ended(list(own), seconds)]


def _from_anywhere(task: Task) -> Task:
    data_dir = task.data_dir
    return replace(
        task,
        source=absolute_source(task.source),
        folder=task.folder.resolve(),
        data_dir=None if data_dir is None else data_dir.resolve(),
    )
