"""One run by processes of a cluster: what the command does of what they say; without Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from glasshouse.cluster.folders import Parcel, read_files
from glasshouse.cluster.pieces import Cluster
from glasshouse.cluster.together import Contact
from glasshouse.errors import GlasshouseWarning, Interrupted, LostProcess, UsageError
from glasshouse.recipe import load_recipe
from glasshouse.runs import holding
from glasshouse.storage import sha256_of_file
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch
from glasshouse.workflow.compare.seeds import run_quietly
from glasshouse.workflow.train import joint_training
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.joint_training import _fitting, take_part_in_run, train_together
from tests.run_files import without_reports

SMALL = (
    "data.train_limit=64", "train.epochs=2", "train.batch_size=32", "train.shards=2",
    "train.device=cpu", "train.precision=fp32", "train.threads=1",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_reports")


class Mail:
    """A contact that keeps what is said, and may be told to stop or to die after an epoch."""

    def __init__(self, signal: int | None = None, dies_after: int | None = None) -> None:
        self.said: list[Any] = []
        self.signal, self.dies_after = signal, dies_after

    def say(self, message: Any) -> None:
        self.said.append(message)
        if self.dies_after is not None and isinstance(message, dict):
            raise LostProcess("killed")

    def signal_received(self) -> int | None:
        return self.signal


class Places:
    """A cluster that has places, and runs the first process here."""

    gpus = 0

    def __init__(self, places: int, *mails: Mail, loses: int = 0) -> None:
        self.places, self.mails, self.loses = places, list(mails), loses
        self.asked: list[int] = []
        self.parcels: list[Parcel] = []

    def run(self, cluster: Any, count: int, work: Any, *arguments: Any, **options: Any) -> Any:
        self.asked.append(count)
        self.parcels.append(arguments[1])
        mail = self.mails.pop(0) if self.mails else Mail()
        request, parcel = arguments
        elsewhere = replace(parcel, text="of another disk")
        error: LostProcess | None = None
        try:
            work(cast(Contact, mail), request, elsewhere)
        except LostProcess as lost:
            error = lost
        yield from mail.said
        if error is not None:
            self.places -= self.loses
            raise error


def request_into(out: Path) -> TrainRequest:
    return TrainRequest("digits", load_recipe("small-cnn", SMALL), out, offline=True)


@pytest.fixture
def request_for(tmp_path: Path) -> TrainRequest:
    return request_into(tmp_path / "run")


@pytest.fixture(scope="module")
def run_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    with without_reports():
        run_quietly(request_into(out))
    return out


@pytest.fixture
def alone(run_alone: Path) -> str:
    return sha256_of_file(run_alone / "model.safetensors")


def trained(
    monkeypatch: pytest.MonkeyPatch, places: Places, request: TrainRequest, **options: Any
) -> Iterator[Step | Epoch]:
    monkeypatch.setattr(joint_training, "run_together", places.run)
    return train_together(cast(Cluster, places), 2, request, **options)


def test_a_run_comes_back_with_its_records_and_its_lines(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest, alone: str
) -> None:
    places, lines = Places(2), list[str]()
    records = list(trained(monkeypatch, places, request_for, say=lines.append))
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [1, 2]
    assert any(isinstance(r, Step) for r in records) and places.asked == [2]
    assert any(line.startswith("recipe small-cnn, ") for line in lines)
    assert sha256_of_file(request_for.out / "model.safetensors") == alone
    # As if it had been trained here.
    holding.hold(request_for.out)
    holding.release(request_for.out)


def test_fewer_processes_resume_where_one_was_lost(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest, alone: str
) -> None:
    monkeypatch.setattr(joint_training, "_SENT_EVERY_S", 0.0)
    places, lines = Places(2, Mail(dies_after=1), loses=1), list[str]()
    records = list(trained(monkeypatch, places, request_for, say=lines.append))
    assert places.asked == [2, 1]
    assert "a process was lost, or its machine: 1 process resumes" in lines
    # The second begins where the first had come to, and no epoch is trained twice.
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [1, 2]
    assert "metrics.jsonl" in places.parcels[1].files and not places.parcels[0].files
    assert sha256_of_file(request_for.out / "model.safetensors") == alone


def test_it_ends_when_processes_are_lost_again_and_again(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest
) -> None:
    monkeypatch.setattr(joint_training, "_SENT_EVERY_S", 0.0)
    monkeypatch.setattr(joint_training, "_MOST_LOSSES", 2)
    places = Places(2, *(Mail(dies_after=1) for _ in range(9)))
    lines: list[str] = []
    with pytest.raises(LostProcess):
        list(trained(monkeypatch, places, request_for, say=lines.append))
    assert "a process was lost, or its machine: 2 processes resume" in lines
    # Each of the two epochs is progress, after which losses count from the first again.
    assert places.asked == [2] * 3


def test_a_signal_ends_it_with_what_resumes(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest, alone: str
) -> None:
    stopped = trained(monkeypatch, Places(2, Mail(signal=15)), request_for,
                      signal_received=lambda: 15)  # fmt: skip
    with pytest.raises(Interrupted, match=r"everything is saved. Resume with: .*--resume") as end:
        list(stopped)
    assert end.value.exit_code == 143
    assert "checkpoint" in {path.name for path in request_for.out.iterdir()}
    list(trained(monkeypatch, Places(2), request_for))
    assert sha256_of_file(request_for.out / "model.safetensors") == alone


def test_a_finished_run_is_not_trained_again(run_alone: Path, tmp_path: Path) -> None:
    parcel = Parcel(run_alone, tmp_path / "none", "text", read_files(run_alone))
    mail = Mail()
    take_part_in_run(cast(Contact, mail), request_into(run_alone), parcel)
    assert mail.said == [parcel.files]


@pytest.mark.parametrize(
    ("processes", "places", "message"),
    [
        (4, 8, r"4 processes cannot share train.shards = 2"),
        (2, 1, r"2 processes need as many places, but the cluster has 1: start fewer, add"),
    ],
)
def test_processes_that_do_not_fit_are_refused(
    request_for: TrainRequest, processes: int, places: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        list(train_together(cast(Cluster, Places(places)), processes, request_for))
    assert not request_for.out.exists()


@pytest.mark.parametrize(
    ("processes", "places", "expected"), [(8, 7, 4), (8, 8, 8), (2, 16, 2), (4, 1, 1), (1, 3, 1)]
)
def test_as_many_as_there_are_places_for(processes: int, places: int, expected: int) -> None:
    assert _fitting(processes, places) == expected


def test_an_empty_folder_that_was_held_is_left_to_others_and_removed(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest
) -> None:
    holding.hold(request_for.out)
    monkeypatch.setattr(joint_training, "run_together", lambda *a, **o: refused(request_for.out))
    with pytest.raises(UsageError, match="other versions"):
        list(train_together(cast(Cluster, SimpleNamespace(places=2, gpus=0)), 2, request_for))
    assert not request_for.out.exists()


def refused(folder: Path) -> Iterator[object]:
    # Who trains into it can hold it.
    holding.require_not_held(folder)
    assert folder.is_dir() and folder.resolve() not in holding._held
    raise UsageError("other versions")
    yield


def test_warnings_of_the_first_process_are_those_of_the_command(
    monkeypatch: pytest.MonkeyPatch, request_for: TrainRequest
) -> None:
    said = [GlasshouseWarning("the loss is not copied"), "a line"]
    monkeypatch.setattr(joint_training, "run_together", lambda *a, **o: iter(said))
    lines: list[str] = []
    two: Any = SimpleNamespace(places=2, gpus=0)
    with pytest.warns(GlasshouseWarning, match="the loss is not copied"):
        list(train_together(two, 2, request_for, say=lines.append))
    assert lines == ["a line"]
