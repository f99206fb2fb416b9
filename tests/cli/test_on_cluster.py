"""Options that do not go together with a cluster, who works without one, and a run that has one."""

import importlib.util
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glasshouse.cli import on_cluster
from glasshouse.cli.on_cluster import crew_on, piecework_on, runner_on
from glasshouse.cli.train import _is_done_elsewhere
from glasshouse.cluster import connection
from glasshouse.errors import Interrupted, UsageError
from glasshouse.recipe import load_recipe
from glasshouse.runs.folder import read_run
from glasshouse.training import features
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.tune.crew import ProcessCrew
from tests.cluster.instead import Instead
from tests.data.image_files import write_folder
from tests.journeys.command import glasshouse_here

Capture = pytest.CaptureFixture[str]
FEATURES = [
    "train", "photos", "--backbone", "resnet10t:weights=none", "--out", "run",
    "--set", "model.pretrained.input_size=32", "--set", "data.on_finding=ignore",
]  # fmt: skip


class Watched(Instead):
    """The stand-in, which counts what it is given; number: of a signal that arrives meanwhile."""

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self.number = number
        self.work: list[str] = []

    def begin(self, work: Callable[..., object], *arguments: object) -> Any:
        self.work.append(work.__name__)
        return super().begin(work, *arguments)

    def ended(self, pieces: Sequence[Any], seconds: float) -> list[Any]:
        if self.number is not None:
            signal.raise_signal(self.number)
            self.number = None
        return super().ended(pieces, seconds)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """What every address leads to."""
    found = Watched()

    @contextmanager
    def stand_in(address: str, device: str) -> Iterator[Watched]:
        yield found

    monkeypatch.setattr(on_cluster, "cluster_at", stand_in)
    # It looks for Ray.
    monkeypatch.setattr(connection, "require_address", lambda address: None)
    return found


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of two classes in the current folder, whose features fill several blocks."""
    write_folder(tmp_path / "photos", {"cat": 30, "dog": 30})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(features, "_BLOCK_ROWS", 10)
    monkeypatch.setattr(features, "_known", {})


@pytest.mark.parametrize(
    ("seeds", "minutes", "processes", "message"),
    [
        (3, 1.5, None, "--minutes measures this machine: use it without --on"),
        (3, None, 2, "use --seeds or --processes, not both"),
    ],
)
def test_train_refuses_what_a_cluster_cannot_do(
    seeds: int | None,
    minutes: float | None,
    processes: int | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match=message):
        _is_done_elsewhere("ray", seeds, minutes, processes)
    assert not _is_done_elsewhere("ray", 3, None, None)


def test_an_address_is_checked_before_anything_else() -> None:
    with pytest.raises(UsageError, match="expected ray"):
        _is_done_elsewhere("host", None, None, None)


@pytest.mark.usefixtures("photos")
def test_a_training_that_is_not_dealt_to_a_cluster_is_refused(
    cluster: Watched, capsys: Capture
) -> None:
    code, _, errors = glasshouse_here(["train", "photos", "--out", "run", "--on", "ray"], capsys)
    assert code == 2
    assert "add --seeds N or --processes N" in errors
    assert cluster.work == [] and not Path("run").exists()


@pytest.mark.usefixtures("photos", "no_reports")
@pytest.mark.parametrize("more", [[], ["--processes", "1"]])
def test_the_features_of_a_run_come_from_the_cluster(
    more: list[str], cluster: Watched, capsys: Capture
) -> None:
    code, _, errors = glasshouse_here([*FEATURES, "--on", "ray", *more], capsys)
    assert code == 0, errors
    assert set(cluster.work) == {"block_elsewhere"} and len(cluster.work) > 6
    assert "features computed in" in errors
    assert read_run(Path("run")).is_finished


@pytest.mark.usefixtures("photos", "no_reports")
def test_a_signal_stops_the_features_of_a_cluster_and_they_are_resumed_without_one(
    cluster: Watched, capsys: Capture
) -> None:
    cluster.number = signal.SIGTERM
    code, _, errors = glasshouse_here([*FEATURES, "--on", "ray"], capsys)
    assert code == 128 + signal.SIGTERM
    assert "the features computed so far are cached. Resume with: glasshouse train" in errors
    assert not read_run(Path("run")).is_finished
    code, _, errors = glasshouse_here([*FEATURES, "--resume"], capsys)
    assert code == 0, errors
    assert read_run(Path("run")).is_finished


def test_signals_are_noted_while_pieces_are_computed_and_none_is_forgotten(
    cluster: Watched,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with piecework_on("ray", "cpu") as piecework:
        assert piecework is not None
        assert list(piecework(pow, [(2, 3), (3, 2)])) == [8, 9]
        assert signal.getsignal(signal.SIGINT) is before
        # With the last piece, after which nothing is left to stop.
        cluster.number = signal.SIGINT
        with pytest.raises(Interrupted, match="repeat the command"):
            list(piecework(pow, [(2, 3)]))
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("workers", "size"), [(None, 1), (3, 3)])
def test_without_a_cluster_processes_of_this_machine_search(
    workers: int | None, size: int, tmp_path: Path
) -> None:
    with crew_on(None, tmp_path / "out", workers, "cpu") as crew:
        assert crew == ProcessCrew(size)


def test_without_a_cluster_runs_are_trained_here(tmp_path: Path) -> None:
    from glasshouse.cli.experiments import run_to_the_end

    request = TrainRequest("digits", load_recipe("small-cnn"), tmp_path)
    with runner_on(None, [request]) as run:
        assert run is run_to_the_end
