"""Runs trained on a cluster at the same time, each of which leaves its folder in its place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from glasshouse.errors import GlasshouseError, Interrupted
from glasshouse.workflow.compare.seeds import Runner
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from glasshouse.workflow.train.feature_run import run_features
from glasshouse.workflow.train.logs import logged, open_logs
from glasshouse.workflow.train.request import from_anywhere, is_finished, record_origin
from glasshouse.workflow.train.same_images import SameImages

_POLL_S = 0.5


@dataclass
class _Ahead:
    """Runs that a cluster trains: those handed out, and how those that ended did."""

    cluster: Cluster
    marker: tuple[Path, str]
    on_end: Callable[[TrainRequest], None]
    signal_received: Callable[[], int | None]
    pieces: dict[Any, TrainRequest] = field(default_factory=dict)
    errors: dict[Path, GlasshouseError | None] = field(default_factory=dict)
    images: SameImages = field(default_factory=SameImages)

    def begin(self, request: TrainRequest) -> None:
        """Hand out a run that is to be trained, or resumed from what is in its folder."""
        request = from_anywhere(replace(request, resume=True))
        if is_finished(request):
            self.images.require(request.out)
            self.errors[request.out] = None
            return
        parcel = Parcel(request.out, *self.marker, read_files(request.out))
        self.pieces[self.cluster.begin(train_there, request, parcel)] = request

    def finish(self, request: TrainRequest) -> None:
        """Wait until a run has ended, and put all that end meanwhile in their places."""
        out = request.out.resolve()
        if out not in self.errors and out not in {r.out for r in self.pieces.values()}:
            self.begin(request)
        while out not in self.errors:
            for piece in self.cluster.ended(list(self.pieces), _POLL_S):
                self._take(piece)
            number = self.signal_received()
            if number:
                raise Interrupted("the runs that have ended are kept", number)
        error = self.errors[out]
        if error is not None:
            raise error

    def _take(self, piece: Any) -> None:
        request = self.pieces.pop(piece)
        self.errors[request.out] = None
        try:
            files: Files | None = self.cluster.result(piece)
            if files is not None:
                put_in_place(files, request.out)
            record_origin(request)
            self.images.require(request.out)
        except GlasshouseError as error:
            self.errors[request.out] = error
            return
        self.on_end(request)


@contextmanager
def trained_ahead(
    cluster: Cluster,
    requests: Sequence[TrainRequest],
    *,
    on_end: Callable[[TrainRequest], None] = lambda request: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> Iterator[Runner]:
    """A runner that, when it is first asked for a run, has all of these trained on the cluster.

    on_end: called with each run once its files are in their place. signal_received: polled, and a
    signal number stops the runs. The runner raises what a run raised, and Interrupted.
    """
    with marked(requests[0].out.parent) as marker:
        ahead = _Ahead(cluster, marker, on_end, signal_received)

        def run(request: TrainRequest) -> None:
            if not ahead.pieces and not ahead.errors:
                for each in requests:
                    ahead.begin(each)
            ahead.finish(request)

        try:
            yield run
        finally:
            cluster.stop(ahead.pieces)


def train_there(request: TrainRequest, parcel: Parcel) -> Files | None:
    """Train a run on a machine of the cluster; its files, unless they are where they belong."""
    with unpacked(parcel) as folder:
        here = replace(request, out=folder)
        if not is_finished(here):
            _train(here)
        return files_to_send(parcel, folder)


def _train(request: TrainRequest) -> None:
    if request.recipe.transfer.way == "features":
        run = run_features(request)
        with open_logs(request.logs, request, ()) as log:
            log.result(run.result.evaluation)
        return
    experiment = open_experiment(request)
    with open_logs(request.logs, request, experiment.state.history) as log:
        for _ in logged(fit_experiment(experiment), log):
            pass
        log.result(finish_experiment(experiment).evaluation)
