"""What a command does with runs that others train; no cluster is started."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.errors import DataError, Interrupted, UsageError
from glasshouse.recipe import load_recipe
from glasshouse.workflow.compare.remote_runs import trained_ahead
from glasshouse.workflow.compare.seeds import seed_requests
from glasshouse.workflow.train.experiment import TrainRequest
from tests.cluster.instead import Instead

SMALL = ("data.train_limit=64", "train.epochs=1", "train.device=cpu", "train.precision=fp32")
pytestmark = pytest.mark.usefixtures("no_reports")


class Noted(Instead):
    """Notes the folders of the runs that are handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Path] = []

    def begin(self, work: Callable[..., object], *arguments: object) -> Any:
        request = arguments[0]
        assert isinstance(request, TrainRequest)
        self.handed.append(request.out)
        return super().begin(work, *arguments)


def asked(out: Path, *changes: str) -> TrainRequest:
    torch.set_num_threads(1)
    return TrainRequest("digits", load_recipe("small-cnn", [*SMALL, *changes]), out, offline=True)


@pytest.mark.slow
def test_all_runs_begin_with_the_first_and_others_when_they_are_asked_for(tmp_path: Path) -> None:
    cluster: Any = Noted()
    first, second = seed_requests(asked(tmp_path / "out"), 2)
    other = replace(first, out=tmp_path / "out" / "another")
    ended: list[Path] = []
    with trained_ahead(cluster, [first, second], on_end=lambda each: ended.append(each.out)) as run:
        assert cluster.handed == []
        run(second)
        assert cluster.handed == [first.out, second.out] and ended == [second.out]
        run(first)
        assert len(cluster.handed) == 2 and ended == [second.out, first.out]
        run(other)
    assert cluster.handed[2:] == [other.out] == ended[2:]
    assert cluster.stopped == [] and [path.name for path in tmp_path.iterdir()] == ["out"]
    # What has finished is not handed out again.
    again: Any = Noted()
    with trained_ahead(again, [first, second]) as run:
        run(second)
    assert again.handed == []


def test_an_error_is_that_of_its_run(tmp_path: Path) -> None:
    cluster: Any = Noted()
    good = asked(tmp_path / "good")
    bad = replace(good, source=str(tmp_path / "none"), out=tmp_path / "bad")
    with trained_ahead(cluster, [good, bad]) as run:
        run(good)
        with pytest.raises(DataError, match="none"):
            run(bad)


def test_a_signal_stops_what_has_not_ended(tmp_path: Path) -> None:
    cluster: Any = Noted()
    requests = seed_requests(asked(tmp_path / "out"), 2)
    with (
        pytest.raises(Interrupted, match="the runs that have ended are kept"),
        trained_ahead(cluster, requests, signal_received=lambda: 15) as run,
    ):
        run(requests[0])
    assert len(cluster.handed) == 2 and len(cluster.stopped) == 1


def test_another_recipe_in_the_folder_is_refused(tmp_path: Path) -> None:
    request = asked(tmp_path / "run")
    with trained_ahead(Noted(), [request]) as run:  # type: ignore[arg-type]
        run(request)
    other = asked(tmp_path / "run", "train.lr=0.5")
    with (
        pytest.raises(UsageError, match="another recipe"),
        trained_ahead(Noted(), [other]) as run,  # type: ignore[arg-type]
    ):
        run(other)
