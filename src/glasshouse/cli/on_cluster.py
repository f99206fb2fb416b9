"""Commands whose pieces of work are done on a cluster, where --on names one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.wording import pluralize

if TYPE_CHECKING:
    from glasshouse.cluster.pieces import Cluster
    from glasshouse.cluster.piecework import Piecework
    from glasshouse.evaluation.evaluation import AnyEvaluation
    from glasshouse.workflow.compare.seeds import Runner
    from glasshouse.workflow.train.experiment import TrainRequest
    from glasshouse.workflow.tune.crew import Crew


@contextmanager
def cluster_at(address: str, device: str) -> Iterator["Cluster"]:
    """The cluster at an address, with a line about its size."""
    from glasshouse.cli.progress_bars import say
    from glasshouse.cluster.connection import connected

    with connected(address, device=device, say=say) as cluster:
        say(f"cluster {address}: {pluralize(cluster.places, 'piece')} of work at the same time")
        yield cluster


@contextmanager
def runner_on(on: str | None, requests: Sequence["TrainRequest"]) -> Iterator["Runner"]:
    """What trains these runs: one after another here, or together on a cluster."""
    from glasshouse.cli.experiments import run_to_the_end

    if on is None:
        yield run_to_the_end
        return
    from glasshouse.cli.progress_bars import say
    from glasshouse.cli.signals import catch_signals
    from glasshouse.workflow.compare.remote_runs import trained_ahead

    with (
        cluster_at(on, requests[0].recipe.train.device) as cluster,
        catch_signals() as signal_received,
        trained_ahead(
            cluster,
            requests,
            on_end=lambda request: say(f"trained: {request.out}"),
            signal_received=signal_received,
        ) as run,
    ):
        yield run


def run_one(on: str | None, request: "TrainRequest", processes: int | None) -> "AnyEvaluation":
    """Train one run: here, with features from a cluster, or in several processes of it."""
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.cli.processes import as_first

    if on is not None and request.recipe.transfer.way != "features":
        return _train_together_on(on, request, processes or 1)
    with as_first(), piecework_on(on, request.recipe.train.device) as piecework:
        return run_to_the_end(request, piecework=piecework).evaluation


def _train_together_on(on: str, request: "TrainRequest", processes: int) -> "AnyEvaluation":
    """Train one run in several processes of a cluster, with the progress of one that is local."""
    from glasshouse.cli.experiments import say_how_it_ended
    from glasshouse.cli.progress_bars import say
    from glasshouse.cli.signals import catch_signals
    from glasshouse.evaluation.evaluation import evaluate_any
    from glasshouse.training.watch import show_training
    from glasshouse.workflow.train.joint_training import train_together
    from glasshouse.workflow.use.predictions import predictions_of

    train = request.recipe.train
    with cluster_at(on, train.device) as cluster, catch_signals() as signal_received:
        records = train_together(
            cluster, processes, request, say=say, signal_received=signal_received
        )
        show_training(records, train.epochs)
    predictions = predictions_of(request.out, None, data_dir=request.data_dir, offline=True)
    evaluation = evaluate_any(predictions)
    say_how_it_ended(request, evaluation, len(predictions))
    return evaluation


@contextmanager
def piecework_on(on: str | None, device: str) -> Iterator["Piecework | None"]:
    """What computes pieces together on a cluster; None where they are computed here."""
    if on is None:
        yield None
        return
    from glasshouse.cli.progress_bars import say
    from glasshouse.cli.signals import catch_signals
    from glasshouse.cluster.piecework import at_the_same_time
    from glasshouse.errors import Interrupted

    def compute(work: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        # Only here: what this machine computes itself stops at once, as it does without a cluster.
        with catch_signals() as signal_received:
            yield from at_the_same_time(
                cluster,
                on_end=lambda ended, total: say(f"{ended} of {pluralize(total, 'piece')} ended"),
                signal_received=signal_received,
            )(work, pieces)
            number = signal_received()
        if number:
            raise Interrupted("stopped before the end; repeat the command", number)

    with cluster_at(on, device) as cluster:
        yield compute


@contextmanager
def crew_on(on: str | None, out: Path, workers: int | None, device: str) -> Iterator["Crew"]:
    """Who trains the trials of a search: processes of this machine, or of a cluster."""
    if on is None:
        from glasshouse.workflow.tune.crew import ProcessCrew

        yield ProcessCrew(workers or 1)
        return
    from glasshouse.cluster.folders import marked
    from glasshouse.workflow.tune.remote_crew import ClusterCrew

    with cluster_at(on, device) as cluster, marked(out) as marker:
        yield ClusterCrew(cluster, marker, workers or cluster.places)
