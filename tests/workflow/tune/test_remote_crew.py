"""What the actor of a worker leaves when it is lost; no cluster is started."""

from pathlib import Path
from typing import Any

import pytest

from glasshouse.cluster.pieces import Cluster, Outcome, Terms
from glasshouse.errors import DataError
from glasshouse.workflow.tune.remote_crew import ClusterCrew, ClusterWorker
from glasshouse.workflow.tune.worker import Reached


@pytest.fixture
def exceptions() -> Any:
    """Ray's. Imported by a test: when it is, Ray reads what the tests with nodes set before."""
    return pytest.importorskip("ray.exceptions")


class Answering:
    """Ray as far as a worker asks for an answer: which is given, or raised."""

    def __init__(self, answer: Outcome | Exception, exceptions: Any) -> None:
        self.answer, self.exceptions = answer, exceptions

    def get(self, reference: object) -> Outcome:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def worker(answer: Any, exceptions: Any) -> ClusterWorker:
    cluster = Cluster(Answering(answer, exceptions), Terms({}, 1), 0)
    return ClusterWorker(ClusterCrew(cluster, (Path("marker"), "text"), 1))


def test_an_answer_is_its_value_or_its_error(exceptions: Any) -> None:
    assert worker(Outcome(Reached(3, 0.5)), exceptions).recv() == Reached(3, 0.5)
    with pytest.raises(DataError, match="no images"):
        worker(Outcome(error=DataError("no images")), exceptions).recv()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ActorDiedError", ()),
        ("OutOfMemoryError", ("the node was running low on memory",)),
        ("NodeDiedError", ("its node died",)),
        ("ObjectLostError", ("00", None, "")),
    ],
)
def test_whatever_the_loss_of_a_machine_is_called_the_worker_is_lost(
    exceptions: Any, name: str, given: tuple[object, ...]
) -> None:
    with pytest.raises(EOFError):
        worker(getattr(exceptions, name)(*given), exceptions).recv()


def test_a_fault_in_the_code_is_not_taken_for_a_lost_worker(exceptions: Any) -> None:
    fault = exceptions.RayTaskError("begin", "Traceback", KeyError("no such key"))
    with pytest.raises(exceptions.RayTaskError):
        worker(fault, exceptions).recv()
