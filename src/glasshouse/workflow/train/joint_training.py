"""One run trained by several processes of a cluster, as if they were on one machine."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glasshouse.cluster.folders import (
    Files,
    Parcel,
    files_to_send,
    marked,
    put_in_place,
    read_files,
    unpacked,
)
from glasshouse.cluster.pieces import Cluster
from glasshouse.cluster.together import Contact, Link, run_together
from glasshouse.errors import GlasshouseWarning, Interrupted, LostProcess, UsageError
from glasshouse.runs import holding
from glasshouse.training.fit import describe_early_end
from glasshouse.training.loop import Step
from glasshouse.training.process_group import (
    CONNECTED_WITHIN,
    ProcessGroup,
    backend_for,
    joined,
    require_processes_fit,
)
from glasshouse.training.state import Epoch
from glasshouse.wording import pluralize
from glasshouse.workflow.train.announcement import what_will_be_done
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.train.followers import follow_runs
from glasshouse.workflow.train.logs import logged, open_logs
from glasshouse.workflow.train.request import (
    from_anywhere,
    is_finished,
    record_origin,
    resume_command_of,
)

# Losses without an epoch that had not been trained before.
_MOST_LOSSES = 5
# A record of every step would cost more than a small step.
_STEP_EVERY_S, _READING_EVERY_S = 0.5, 5.0
# Where no disk is shared, a machine that is lost costs what was trained since then.
_SENT_EVERY_S = 60.0


def train_together(
    cluster: Cluster,
    processes: int,
    request: TrainRequest,
    *,
    say: Callable[[str], None] = lambda text: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Iterator[Step | Epoch]:
    """Train a run to its end on a cluster, yielding all epochs and some of the steps.

    Its files are in ``request.out`` when it ends, the same bytes for any number of processes. Where
    one is lost, as many as there are places left resume from the last checkpoint that is here. say:
    called with what the first process has to say. Raises UsageError where the processes cannot
    share the shards or the cluster has no place for them, LostProcess for the fifth loss since the
    last new epoch, and Interrupted when everything is saved.
    """
    _require_places(cluster, processes, request)
    whole = from_anywhere(replace(request, resume=True))
    # The process that trains into it holds it.
    holding.hand_over(request.out)
    try:
        with marked(whole.out) as marker:
            yield from _trained(cluster, processes, whole, marker, say, signal_received)
    finally:
        holding.remove_if_empty(request.out)
    number = signal_received()
    if number and not is_finished(whole):
        raise Interrupted(
            f"stopped; everything is saved. Resume with: {resume_command_of(request)}", number
        )


def _require_places(cluster: Cluster, processes: int, request: TrainRequest) -> None:
    require_processes_fit(processes, request.recipe.train.shards)
    if processes > cluster.places:
        raise UsageError(
            f"{processes} processes need as many places, but the cluster has "
            f"{cluster.places}: start fewer, add machines, or lower OMP_NUM_THREADS"
        )


def _trained(
    cluster: Cluster,
    processes: int,
    request: TrainRequest,
    marker: tuple[Path, str],
    say: Callable[[str], None],
    signal_received: Callable[[], int | None],
) -> Iterator[Step | Epoch]:
    losses, reached = 0, 0
    while True:
        parcel = Parcel(request.out, *marker, read_files(request.out))
        seconds = int(CONNECTED_WITHIN.total_seconds())
        link = Link(backend_for(has_gpus=bool(cluster.gpus)), seconds)
        said = run_together(
            cluster, processes, take_part_in_run, request, parcel,
            link=link, signal_received=signal_received,
        )  # fmt: skip
        try:
            for record in _records(said, request, say):
                if isinstance(record, Epoch) and record.epoch > reached:
                    losses, reached = 0, record.epoch
                yield record
            return
        except LostProcess:
            losses += 1
            if losses == _MOST_LOSSES or signal_received():
                raise
            processes = _fitting(processes, cluster.places)
            count = pluralize(processes, "process resumes", "processes resume")
            say(f"a process was lost, or its machine: {count}")


def _records(
    said: Iterator[Any], request: TrainRequest, say: Callable[[str], None]
) -> Iterator[Step | Epoch]:
    """The epochs and steps among what the first process says; all else goes where it belongs."""
    for message in said:
        if isinstance(message, Step | Epoch):
            yield message
        elif isinstance(message, GlasshouseWarning):
            warnings.warn(message, stacklevel=2)
        elif isinstance(message, str):
            say(message)
        else:
            put_in_place(message, request.out)
            record_origin(request)


def _fitting(processes: int, places: int) -> int:
    """The largest power of two that is neither more than there were nor than there are places."""
    return min(processes, 1 << (places.bit_length() - 1))


def take_part_in_run(contact: Contact, request: TrainRequest, parcel: Parcel) -> None:
    """Take part in the training of a run, in a process of the cluster."""
    # All processes are interrupted after the same step; the command says so.
    with joined() as group, suppress(Interrupted):
        if not group.is_first:
            follow_runs(group, contact.signal_received)
            return
        _lead(group, contact, request, parcel)


def _lead(group: ProcessGroup, contact: Contact, request: TrainRequest, parcel: Parcel) -> None:
    with unpacked(parcel) as folder:
        here = replace(request, out=folder)
        try:
            if not is_finished(here):
                _train(here, _Voice(contact, parcel, folder))
        finally:
            _send(contact, files_to_send(parcel, folder))
    group.told(None)


@dataclass
class _Voice:
    """Tells the command how a training goes, and not more often than somebody can read it."""

    contact: Contact
    parcel: Parcel
    folder: Path
    last: dict[str, float] = field(default_factory=dict)

    def read(self, what: str, done: int, total: int) -> None:
        """Called while images are read."""
        if self._is_due("reading", _READING_EVERY_S):
            self.contact.say(f"{what}: {done:,} of {total:,}")

    def record(self, record: Step | Epoch) -> None:
        """Called after each step and each epoch."""
        if isinstance(record, Epoch) or self._is_due("step", _STEP_EVERY_S):
            self.contact.say(record)
        if isinstance(record, Epoch) and self._is_due("files", _SENT_EVERY_S):
            _send(self.contact, files_to_send(self.parcel, self.folder))

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        is_due = now - self.last.setdefault(what, now - seconds) >= seconds
        if is_due:
            self.last[what] = now
        return is_due


def _send(contact: Contact, files: Files | None) -> None:
    if files:
        contact.say(files)


def _train(request: TrainRequest, voice: _Voice) -> None:
    experiment = open_experiment(request, voice.read)
    for line in what_will_be_done(experiment):
        voice.contact.say(line)
    with open_logs(request.logs, request, experiment.state.history) as log:
        for record in logged(fit_experiment(experiment, voice.contact.signal_received), log):
            voice.record(record)
        losses = [epoch.validation_loss for epoch in experiment.state.history]
        ended = describe_early_end(experiment.settings, losses)
        if ended is not None:
            voice.contact.say(ended)
        log.result(finish_experiment(experiment).evaluation)
