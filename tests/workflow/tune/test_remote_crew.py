"""What the actor of a worker leaves when it is lost; no cluster is started."""

from pathlib import Path
from typing import Any

import pytest

from glasshouse.cluster.pieces import Cluster, Outcome, Terms
from glasshouse.errors import DataError
from glasshouse.workflow.tune.remote_crew import ClusterCrew, ClusterWorker
from glasshouse.workflow.tune.worker import Reached

ray = pytest.importorskip("ray")


class Answering:
    """Ray as far as a worker asks for an answer: which is given, or raised."""

    exceptions = ray.exceptions

    def __init__(self, answer: Outcome | Exception) -> None:
        self.answer = answer

    def get(self, reference: object) -> Outcome:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def worker(answer: Any) -> ClusterWorker:
    cluster = Cluster(Answering(answer), Terms({}, 1), 0)
    return ClusterWorker(ClusterCrew(cluster, (Path("marker"), "text"), 1))


def test_an_answer_is_its_value_or_its_error() -> None:
    assert worker(Outcome(Reached(3, 0.5))).recv() == Reached(3, 0.5)
    with pytest.raises(DataError, match="no images"):
        worker(Outcome(error=DataError("no images"))).recv()


@pytest.mark.parametrize(
    "error",
    [
        ray.exceptions.ActorDiedError(),
        ray.exceptions.OutOfMemoryError("the node was running low on memory"),
        ray.exceptions.NodeDiedError("its node died"),
        ray.exceptions.ObjectLostError("00", None, ""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_loss_of_a_machine_is_called_the_worker_is_lost(error: Exception) -> None:
    with pytest.raises(EOFError):
        worker(error).recv()


def test_a_fault_in_the_code_is_not_taken_for_a_lost_worker() -> None:
    fault = ray.exceptions.RayTaskError("begin", "Traceback", KeyError("no such key"))
    with pytest.raises(ray.exceptions.RayTaskError):
        worker(fault).recv()
