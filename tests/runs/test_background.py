"""Trainings in the background: started, stopped with everything saved, gone on with."""

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs.background import (
    Launch,
    forget_launch,
    launch_of,
    launches,
    log_end,
    resume_training,
    start_training,
    status_without_folder,
    stop_training,
)
from glasshouse.runs.listing import list_run
from glasshouse.runs.processes import process_started
from glasshouse.runs.steps import last_mark
from tests.run_files import environment

SMALL = ("--set", "model.preset=small-cnn", "--set", "train.precision=fp32")


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield


def wait_for(happens: Callable[[], object], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def has_ended(launch: Launch) -> bool:
    return not launch.is_running


@pytest.mark.slow
def test_background_training_is_started_stopped_and_resumed(tmp_path: Path) -> None:
    epochs = ("--set", "train.epochs=12", "--set", "train.batch_size=8")
    launch = start_training(tmp_path, "a", "digits", "small-cnn", [*SMALL, *epochs])
    assert launch.is_running
    assert os.getsid(launch.pid) == launch.pid  # the end of our terminal does not reach it
    with pytest.raises(UsageError, match="already a run named a"):
        start_training(tmp_path, "a", "digits", "small-cnn")
    wait_for(lambda: last_mark(tmp_path / "a"))
    stop_training(tmp_path, "a")
    wait_for(lambda: not launch.is_running)
    assert "everything is saved" in log_end(tmp_path, "a")
    assert list_run(tmp_path, tmp_path / "a").status == "stopped"
    with pytest.raises(UsageError, match="nothing to stop"):
        stop_training(tmp_path, "a")
    again = resume_training(tmp_path, "a")
    wait_for(lambda: not again.is_running)
    assert list_run(tmp_path, tmp_path / "a").status == "finished", log_end(tmp_path, "a")
    assert [one.run for one in launches(tmp_path)] == ["a"]


def test_a_failed_start_leaves_its_reason_in_the_log(tmp_path: Path) -> None:
    launch = start_training(tmp_path, "b", "no-such-source", "small-cnn")
    wait_for(lambda: not launch.is_running)
    assert "no-such-source" in log_end(tmp_path, "b")
    assert launch_of(tmp_path, "b") == launch


def test_a_start_that_failed_is_listed_until_it_is_forgotten(tmp_path: Path) -> None:
    launch = start_training(tmp_path, "c", "no-such-source", "small-cnn")
    wait_for(lambda: not launch.is_running)
    assert status_without_folder(tmp_path, launch) == "failed"
    forget_launch(tmp_path, "c")
    assert launches(tmp_path) == [] and log_end(tmp_path, "c") == ""
    with pytest.raises(UsageError, match="stays in the list"):
        forget_launch(tmp_path, "c")


def test_a_run_stopped_before_it_began_is_no_failure_and_starts_again(tmp_path: Path) -> None:
    launch = start_training(tmp_path, "d", "digits", "small-cnn", ["--epochs", "1"])
    # At once: Python itself takes longer to start.
    assert status_without_folder(tmp_path, launch) == "starting"
    stop_training(tmp_path, "d")
    wait_for(lambda: not launch.is_running)
    stopped = launch_of(tmp_path, "d")
    assert stopped is not None and stopped.was_stopped
    assert status_without_folder(tmp_path, stopped) == "stopped"
    again = resume_training(tmp_path, "d")
    # Nothing was written, so that there is nothing to resume.
    assert again.command == launch.command
    with pytest.raises(UsageError, match="training already"):
        resume_training(tmp_path, "d")
    stop_training(tmp_path, "d")
    wait_for(lambda: not again.is_running)
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / "d" / "recipe.toml").write_text(to_toml(load_recipe("small-cnn")))
    for _ in range(2):
        resumed = resume_training(tmp_path, "d")
        assert resumed.command == (*launch.command[:-2], "--resume", *launch.command[-2:])
        stop_training(tmp_path, "d")
        wait_for(partial(has_ended, resumed))


@pytest.mark.parametrize(("is_running", "status"), [(True, "deleted"), (False, None)])
def test_a_run_whose_folder_was_deleted_is_told_from_one_that_has_not_begun(
    tmp_path: Path, is_running: bool, status: str | None
) -> None:
    started = process_started(os.getpid()) if is_running else 0.0
    launch = Launch("e", os.getpid(), started, ("python", "-m", "glasshouse", "train", "digits"))
    (tmp_path / ".background").mkdir()
    log = tmp_path / ".background" / "e.log"
    log.write_text(f"{tmp_path / 'e'}: recipe small-cnn, 9 parameters\n", encoding="utf-8")
    assert status_without_folder(tmp_path, launch) == status
    log.write_text(f"glasshouse: {tmp_path / 'e'} is not empty\n", encoding="utf-8")
    assert status_without_folder(tmp_path, launch) == ("starting" if is_running else "failed")
    assert launch.source == "digits"


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "/etc/x", "a/../../x", ".hidden", "a b", "a//b", "-x"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a run"):
        start_training(tmp_path / "runs", name, "digits", "small-cnn")
    assert list(tmp_path.iterdir()) == []


def test_a_recorded_source_is_never_taken_for_an_option(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "recipe.toml").write_text(to_toml(load_recipe("small-cnn")))
    (tmp_path / "a" / "environment.json").write_text(json.dumps(environment("--log=mlflow")))
    with pytest.raises(UsageError, match="does not name a source: --log=mlflow"):
        resume_training(tmp_path, "a")
