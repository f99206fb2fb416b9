"""The file that tells where a training is: what stands in it, and how others read it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glasshouse.data.images import Splits
from glasshouse.errors import GlasshouseWarning, StorageError
from glasshouse.runs.folder import RECIPE, STEPS
from glasshouse.runs.processes import process_started
from glasshouse.runs.steps import Mark, StepReader, is_running, last_mark
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.fit import fit_preprocessing
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.state import Epoch, TrainingState, begin
from glasshouse.workflow.train import step_log
from glasshouse.workflow.train.step_log import recorded


def mark(epoch: int, step: int, *, loss: float = 1.0, time: float = 0.0, pid: int = 1) -> Mark:
    return Mark(time, epoch, 4, step, 10, loss, 0.5, 0.1, 100.0, pid, 7.0)


def write(path: Path, marks: list[Mark]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(vars(one)) + "\n" for one in marks)


def two_epochs(splits: Splits, net: torch.nn.Sequential) -> tuple[TrainingState, TrainingSetup]:
    settings = TrainSettings(epochs=2, batch_size=32, precision="fp32")
    setup = TrainingSetup(
        splits.train, splits.validation, fit_preprocessing(splits.train),
        settings, AugmentSettings(),
    )  # fmt: skip
    return begin(net, settings, torch.device("cpu")), setup


@pytest.fixture
def _each_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(step_log, "_EVERY_SECONDS", 0.0)
    yield


@pytest.mark.usefixtures("_each_step")
def test_each_line_has_the_means_since_the_previous_one(
    tmp_path: Path, tiny_splits: Splits, tiny_net: torch.nn.Sequential
) -> None:
    (tmp_path / RECIPE).touch()
    state, setup = two_epochs(tiny_splits, tiny_net)
    records = list(recorded(train(state, setup), state, 2, tmp_path))
    reader = StepReader(tmp_path / STEPS)
    reader.read()
    taken = [record for record in records if isinstance(record, Step)]
    epochs = [record for record in records if isinstance(record, Epoch)]
    assert [row[0] for row in reader.curve] == [r.epoch - 1 + r.step / r.steps for r in taken]
    per_epoch = len(taken) // 2
    for number, epoch in enumerate(epochs):
        rows = reader.curve[number * per_epoch : (number + 1) * per_epoch]
        assert sum(row[1] for row in rows) / per_epoch == pytest.approx(epoch.train_loss)
        assert sum(row[2] for row in rows) / per_epoch == pytest.approx(epoch.train_accuracy)
    last = last_mark(tmp_path)
    assert last is not None and last.is_last and is_running(last)
    assert last.pid == os.getpid()


def test_resuming_drops_the_lines_of_repeated_steps(
    tmp_path: Path, tiny_splits: Splits, tiny_net: torch.nn.Sequential
) -> None:
    write(tmp_path / STEPS, [mark(1, 5), mark(1, 10), mark(2, 3), mark(2, 6)])
    state = begin(tiny_net, TrainSettings(), torch.device("cpu"))
    state.epoch, state.step = 1, 3
    assert list(recorded(iter(()), state, 4, tmp_path)) == []
    reader = StepReader(tmp_path / STEPS)
    reader.read()
    assert [row[0] for row in reader.curve] == [0.5, 1.0, 1.3]


@pytest.mark.usefixtures("_each_step")
def test_a_full_disk_costs_the_progress_and_not_the_training(
    tmp_path: Path, tiny_splits: Splits, tiny_net: torch.nn.Sequential
) -> None:
    (tmp_path / STEPS).symlink_to("/dev/full")
    (tmp_path / RECIPE).touch()
    state, setup = two_epochs(tiny_splits, tiny_net)
    with pytest.warns(GlasshouseWarning, match="No space left on device") as said:
        list(recorded(train(state, setup), state, 2, tmp_path))
    assert len(said) == 1
    assert len(state.history) == 2


@pytest.mark.usefixtures("_each_step")
@pytest.mark.parametrize("is_left", [False, True])
def test_deleting_the_run_stops_its_training_at_once(
    tmp_path: Path, tiny_splits: Splits, tiny_net: torch.nn.Sequential, is_left: bool
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / RECIPE).touch()
    state, setup = two_epochs(tiny_splits, tiny_net)
    with pytest.raises(StorageError, match="was deleted or moved"):
        for _ in recorded(train(state, setup), state, 2, folder):
            shutil.rmtree(folder, ignore_errors=True)
            # What was written while it was being removed stays.
            if is_left:
                folder.mkdir()
                (folder / STEPS).touch()
    assert state.step == 2
    assert folder.exists() == is_left


def test_a_reader_reads_only_new_and_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / STEPS
    reader = StepReader(path)
    reader.read()
    assert reader.curve == []
    write(path, [mark(1, 1), mark(1, 2)])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"time": 1')  # a line that is being written
    reader.read()
    assert len(reader.curve) == 2
    with path.open("a", encoding="utf-8") as file:
        file.write(" not json}\n")
    write(path, [mark(1, 3)])
    reader.read()
    assert [row[0] for row in reader.curve] == [0.1, 0.2, 0.3]


def test_the_curve_stays_bounded_and_keeps_its_mean(tmp_path: Path) -> None:
    path = tmp_path / STEPS
    reader = StepReader(path, limit=16)
    for start in range(0, 1024, 64):
        write(
            path, [mark(1 + i // 10, 1 + i % 10, loss=float(i)) for i in range(start, start + 64)]
        )
        reader.read()
        assert len(reader.curve) <= 16
    losses = [row[1] for row in reader.curve]
    assert losses == sorted(losses)
    assert sum(losses) / len(losses) == pytest.approx(1023 / 2, rel=0.05)


def test_time_left_follows_the_speed_of_the_latest_stretch(tmp_path: Path) -> None:
    path = tmp_path / STEPS
    write(path, [mark(1, 10, time=0.0, pid=1), mark(2, 10, time=999.0, pid=2)])
    write(path, [mark(3, 10, time=1009.0, pid=2)])
    reader = StepReader(path)
    reader.read()
    assert reader.seconds_left == pytest.approx(10.0)  # one epoch of ten seconds is left


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        # Half an epoch in 20 seconds; three and a half of four epochs are left, or one half.
        ([mark(1, 0, time=0.0), mark(1, 5, time=20.0)], 140.0),
        ([mark(3, 10, time=100.0), mark(4, 5, time=120.0)], 20.0),
        ([mark(4, 5, time=0.0), mark(4, 10, time=9.0)], 0.0),
        ([mark(1, 5)], None),
        ([mark(1, 5, time=0.0), mark(1, 5, time=9.0)], None),
    ],
)
def test_time_left_is_that_of_the_remaining_epochs(
    tmp_path: Path, marks: list[Mark], left: float | None
) -> None:
    write(tmp_path / STEPS, marks)
    reader = StepReader(tmp_path / STEPS)
    reader.read()
    assert reader.seconds_left == (left if left is None else pytest.approx(left))


def test_a_process_that_has_ended_is_not_running() -> None:
    own = process_started(os.getpid())
    here = mark(1, 1)
    assert not is_running(None)
    assert not is_running(here)
    assert is_running(Mark(**{**vars(here), "pid": os.getpid(), "pid_started": own}))
    assert not is_running(Mark(**{**vars(here), "pid": os.getpid(), "pid_started": 0.0}))
