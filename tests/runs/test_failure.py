"""A run that failed says why, until it is resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from glasshouse.errors import DataError, DivergedError, Interrupted
from glasshouse.recipe import load_recipe
from glasshouse.runs.failure import clear_failure, failure_of, has_diverged, record_failure
from glasshouse.runs.folder import FAILURE, RECIPE
from glasshouse.runs.holding import release
from glasshouse.workflow.train.experiment import TrainRequest, fit_experiment, open_experiment
from tests.journeys.command import glasshouse_here

DIGITS = ["train", "digits", "--recipe", "small-cnn", "--epochs", "1"]


@pytest.fixture(autouse=True)
def _a_run(tmp_path: Path) -> None:
    (tmp_path / RECIPE).touch()


def test_the_message_of_a_failure_is_kept_until_it_is_cleared(tmp_path: Path) -> None:
    record_failure(tmp_path, DivergedError("the loss became nan"))
    assert failure_of(tmp_path) == "Diverged: the loss became nan"
    assert has_diverged(failure_of(tmp_path))
    record_failure(tmp_path, DataError("a.png has vanished"))
    assert failure_of(tmp_path) == "a.png has vanished" and not has_diverged(failure_of(tmp_path))
    clear_failure(tmp_path)
    clear_failure(tmp_path)
    assert failure_of(tmp_path) == ""


def test_an_unnamed_error_is_given_with_its_type(tmp_path: Path) -> None:
    record_failure(tmp_path, RuntimeError("no kernel image"))
    assert failure_of(tmp_path) == "RuntimeError: no kernel image"


@pytest.mark.parametrize("error", [Interrupted("stopped", 2), KeyboardInterrupt(), GeneratorExit()])
def test_a_run_that_was_stopped_did_not_fail(tmp_path: Path, error: BaseException) -> None:
    record_failure(tmp_path, error)
    assert not (tmp_path / FAILURE).exists()


def test_a_deleted_folder_is_not_made_again(tmp_path: Path) -> None:
    record_failure(tmp_path / "gone", DivergedError("the loss became nan"))
    assert not (tmp_path / "gone").exists()


def test_a_folder_in_which_nothing_began_stays_empty(tmp_path: Path) -> None:
    (tmp_path / RECIPE).unlink()
    record_failure(tmp_path, DivergedError("the loss became nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_shown_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / FAILURE).write_bytes(b"\xff\xfe" + b"x" * 10_000)
    assert failure_of(tmp_path).endswith("x") and len(failure_of(tmp_path)) <= 4000


def test_a_run_that_diverged_is_listed_with_its_reason_and_no_longer_once_it_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "runs" / "hot")
    code, _, _ = glasshouse_here([*DIGITS, "--lr", "1e12", "--out", run], capsys)
    assert code == 4
    code, listed, errors = glasshouse_here(["runs", str(tmp_path / "runs")], capsys)
    assert code == 0 and "failed" in listed and "the loss became" in errors
    _, listed, _ = glasshouse_here(["runs", str(tmp_path / "runs"), "--json"], capsys)
    row = json.loads(listed)[0]
    assert row["status"] == "failed" and "Lower train.lr" in row["problem"]
    # Resuming fails in the same way, and says so again; a good attempt leaves no trace.
    code, _, _ = glasshouse_here([*DIGITS, "--lr", "1e12", "--out", run, "--resume"], capsys)
    assert code == 4 and failure_of(Path(run))


def test_a_resumed_run_forgets_its_failure(tmp_path: Path) -> None:
    (tmp_path / RECIPE).unlink()
    small = ["train.epochs=1", "data.train_limit=64", "train.device=cpu"]
    request = TrainRequest("digits", load_recipe("small-cnn", small), tmp_path)
    for _ in fit_experiment(open_experiment(request)):
        pass
    release(tmp_path)
    record_failure(tmp_path, DivergedError("the loss became nan"))
    open_experiment(replace(request, resume=True))
    release(tmp_path)
    assert not (tmp_path / FAILURE).exists()
