"""Processes that do one piece of work together on a cluster, started by Ray's TorchTrainer."""

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glasshouse.cluster.pieces import Cluster, Terms, run_piece
from glasshouse.errors import GlasshouseError, GlasshouseWarning, LostProcess, UsageError
from glasshouse.network_interface import choose_interface

_POLL_S = 0.5
_ENDED_WITHIN_S = 600
# Ray asks the processes that often whether they have ended.
_CHECKED_EVERY_S = "0.5"


class Mailbox:
    """What the processes have to say to the command that started them, and it to them.

    An actor of Ray, which the command reads again and again: it cannot be called back.
    """

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.signal: int | None = None

    def put(self, message: Any) -> None:
        """Leave a message for the command."""
        self.messages.append(message)

    def taken(self) -> list[Any]:
        """The messages since the last call."""
        messages, self.messages = self.messages, []
        return messages

    def stop(self, signal: int) -> None:
        """Tell the processes that the command has received a signal."""
        self.signal = signal

    def stopped_by(self) -> int | None:
        """The number of the signal, if the command has received one."""
        return self.signal


@dataclass
class Contact:
    """How a process talks with the command that started it."""

    ray: Any
    mailbox: Any
    signal: int | None = None

    def say(self, message: Any) -> None:
        """Send something to the command."""
        # What is not waited for may be lost with the process.
        self.ray.get(self.mailbox.put.remote(message))

    def signal_received(self) -> int | None:
        """The number of the signal that the command has received, by what is known here."""
        return self.signal

    def listen(self) -> None:
        """Learn of signals, until there is one or the command has gone."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            while self.signal is None:
                time.sleep(_POLL_S)
                self.signal = self.ray.get(self.mailbox.stopped_by.remote())


@dataclass(frozen=True)
class Link:
    """How processes are connected with each other: as torch.distributed takes it."""

    backend: str
    timeout_s: int


@dataclass
class _Fit:
    """A call of a trainer in a thread, since it returns only when everything has ended."""

    trainer: Any
    ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def run(self) -> None:
        try:
            self.trainer.fit()
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()


def run_together(
    cluster: Cluster,
    count: int,
    work: Callable[..., None],
    *arguments: object,
    link: Link,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Iterator[Any]:
    """Have processes do some work together, each on a place of its own; yields what they say.

    work: called in each process with a `Contact` and the arguments, when torch.distributed is
    connected. signal_received: polled, and passed on. Raises what a process raised, and LostProcess
    where a process or its machine was lost, or where there is no place for all.
    """
    mailbox = cluster.ray.remote(Mailbox).options(**cluster.beside_command()).remote()
    with tempfile.TemporaryDirectory(prefix="gh-", ignore_cleanup_errors=True) as place:
        config = {"terms": cluster.terms, "mailbox": mailbox, "work": work, "arguments": arguments}
        fit = _Fit(_trainer(cluster, count, config, link, Path(place)))
        # A daemon: it must not keep a command that ends for another reason.
        threading.Thread(target=fit.run, daemon=True).start()
        told = None
        while not fit.ended.wait(_POLL_S):
            yield from _answer(cluster, mailbox.taken.remote(), fit)
            if told is None and (told := signal_received()) is not None:
                _answer(cluster, mailbox.stop.remote(told), fit)
        yield from _answer(cluster, mailbox.taken.remote(), fit)
    if fit.error is not None:
        meaning = _meaning_of(fit.error)
        raise meaning from (None if meaning is fit.error else fit.error)


def _answer(cluster: Cluster, asked: Any, fit: _Fit) -> Any:
    """What the mailbox answers; raises LostProcess where that is lost."""
    try:
        return cluster.ray.get(asked)
    except cluster.ray.exceptions.RayError as error:
        # Without it, the processes end with the next thing that they have to say. Others must not
        # write to the same folder before.
        fit.ended.wait(_ENDED_WITHIN_S)
        raise LostProcess(_lost("the process that passes on what they say was lost")) from error


def take_part(config: Mapping[str, Any]) -> None:
    """Do the work of one process, on the machine that got it."""
    import ray
    from torch import distributed

    terms: Terms = config["terms"]
    contact = Contact(ray, config["mailbox"])
    threading.Thread(target=contact.listen, daemon=True).start()
    outcome = run_piece(terms, config["work"], contact, *config["arguments"])
    if distributed.get_rank() == 0:
        for text in outcome.warnings:
            contact.say(GlasshouseWarning(text))
    if outcome.error is not None:
        raise outcome.error


def _trainer(cluster: Cluster, count: int, config: dict[str, Any], link: Link, place: Path) -> Any:
    import os

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _CHECKED_EVERY_S)
    try:
        from ray import train
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise UsageError(
            "several processes on a cluster need Ray Train: pip install 'glasshouse[ray]'"
        ) from error

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    options = cluster.options()
    # What is lost is begun again by us, with as many processes as there are places then.
    failures: Any = train.FailureConfig
    return TorchTrainer(
        take_part,
        train_loop_config=config,
        torch_config=_connecting(link),
        scaling_config=train.ScalingConfig(
            num_workers=count,
            use_gpu=bool(options["num_gpus"]),
            resources_per_worker={"CPU": options["num_cpus"], "GPU": options["num_gpus"]},
        ),
        run_config=train.RunConfig(
            name="together",
            storage_path=str(place),
            failure_config=failures(max_failures=0, controller_failure_limit=0),
        ),
    )


def _connecting(link: Link) -> Any:
    """Ray's way of connecting processes, after each has chosen its network interface."""
    from ray.train.torch import TorchConfig

    backend: Any = TorchConfig().backend_cls

    class Reachable(backend):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_choose_interface)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> Any:
            return Reachable

    return Config(backend=link.backend, timeout_s=link.timeout_s)


def _choose_interface() -> None:
    """In a process of the cluster: gloo's interface is the one that Ray uses."""
    import ray

    choose_interface(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _meaning_of(error: Exception) -> Exception:
    """The error that ended the work, not those of processes that only lost another."""
    failures = getattr(error, "worker_failures", None)
    if failures is None:
        # Of what starts the processes, or of the trainer itself.
        reason = getattr(error, "controller_failure", None)
        return error if reason is None else LostProcess(_lost(str(reason)))
    raised = [getattr(each, "_base_exc", each) for _, each in sorted(failures.items())]
    named = [each for each in raised if isinstance(each, GlasshouseError)]
    own = [each for each in named if not isinstance(each, LostProcess)]
    if own:
        return own[0]
    if any(each not in named and not _is_of_ray(each) for each in raised):
        return error  # a fault in the code, with its traceback
    return LostProcess(_lost("a process was lost, or its machine"))


def _is_of_ray(error: Exception) -> bool:
    """Whether Ray itself found that something has ended."""
    return type(error).__module__.partition(".")[0] == "ray"


def _lost(reason: str) -> str:
    lines = reason.strip().splitlines() or ["unknown"]
    return (
        f"the processes could not work together any longer: {lines[0].rstrip('.')}. What was saved "
        "is kept; repeat the command with --resume"
    )
