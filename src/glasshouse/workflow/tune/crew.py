"""Who trains the trials of a search: worker processes of this machine, or of others."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

import torch

from glasshouse.child_python import safe_children
from glasshouse.workflow.tune.worker import Ended, Reached, Task, work


class Worker(Protocol):
    """Trains one trial at a time: is sent a task, then after each epoch whether to continue."""

    def send(self, message: Task | bool) -> None:
        """Send a message; raises OSError where the worker was lost."""
        ...

    def recv(self) -> Reached | Ended:
        """What the worker says; raises EOFError or OSError where it was lost."""
        ...

    def rest(self) -> None:
        """There is no trial for it now; another task may follow."""
        ...

    def stop(self) -> None:
        """Stop it without waiting."""
        ...

    def join(self, seconds: float) -> None:
        """Wait until it has stopped."""
        ...


class Crew(Protocol):
    """Starts workers, and knows which of them have something to say."""

    @property
    def size(self) -> int:
        """How many workers train at the same time."""
        ...

    def start(self) -> Worker:
        """A new worker."""
        ...

    def ready(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
        """Those with a message, after at most some seconds."""
        ...


@dataclass
class ProcessWorker:
    """A process of this machine."""

    process: BaseProcess
    connection: Connection

    def send(self, message: Task | bool) -> None:
        """Send a message; raises OSError where the process has ended."""
        self.connection.send(message)

    def recv(self) -> Reached | Ended:
        """What the process says; raises EOFError or OSError where it has ended."""
        message: Reached | Ended = self.connection.recv()
        return message

    def rest(self) -> None:
        """An idle process costs nothing."""

    def stop(self) -> None:
        """End the process without waiting."""
        self.connection.close()
        self.process.terminate()

    def join(self, seconds: float) -> None:
        """Wait until the process has ended."""
        self.process.join(seconds)


@dataclass(frozen=True)
class ProcessCrew:
    """Processes of this machine, which share its cores."""

    size: int

    def start(self) -> ProcessWorker:
        """A new process."""
        # Forking a process in which torch has used threads may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = max(1, torch.get_num_threads() // self.size)
        process = context.Process(target=work, args=(theirs, threads), daemon=True)
        with safe_children():
            process.start()
        theirs.close()
        return ProcessWorker(process, ours)

    def ready(self, workers: Sequence[Worker], seconds: float) -> Sequence[Worker]:
        """Those whose pipe has a message or was closed."""
        own = {w.connection: w for w in workers if isinstance(w, ProcessWorker)}
        found = wait(list(own), timeout=seconds)
        return [worker for connection, worker in own.items() if connection in found]
