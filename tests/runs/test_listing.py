"""Lists of runs: quick, patient with damage, and up to date."""

import json
import os
from pathlib import Path

import pytest

from glasshouse.recipe import load_recipe, to_toml
from glasshouse.runs.folder import STEPS
from glasshouse.runs.listing import RunListing
from glasshouse.runs.processes import process_started
from tests.run_files import environment, epoch_line, evaluation, write_lines


def write_run(
    folder: Path, *, started: str = "2026-11-01T00:00:00+00:00", done: bool = True
) -> Path:
    """A run folder as far as a list reads it."""
    folder.mkdir(parents=True)
    recipe = load_recipe("small-residual", ["train.epochs=3"])
    (folder / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(environment(started=started)))
    lines = [epoch_line(i + 1, validation_accuracy=0.5 + i / 10) for i in range(3)]
    write_lines(folder / "metrics.jsonl", lines)
    if done:
        (folder / "evaluation.json").write_text(json.dumps(evaluation(0.7, 0.6, 0.8)))
    return folder


def write_mark(folder: Path, *, pid_started: float | None, step: int = 5) -> None:
    mark = {
        "time": 0.0, "epoch": 3, "epochs": 3, "step": step, "steps": 10, "loss": 1.0,
        "accuracy": 0.5, "lr": 0.1, "images_per_second": 9.0, "pid": os.getpid(),
        "pid_started": pid_started,
    }  # fmt: skip
    (folder / STEPS).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def test_the_newest_run_comes_first_with_its_metrics(tmp_path: Path) -> None:
    write_run(tmp_path / "old")
    write_run(tmp_path / "sweep" / "new", started="2026-11-02T00:00:00+00:00")
    new, old = RunListing(tmp_path).read()
    assert (new.name, old.name) == ("sweep/new", "old")
    assert new.score == (0.7, 0.6, 0.8)
    assert (new.status, new.source, new.recipe) == ("finished", "digits", "small-residual")
    assert (new.epochs, new.of, new.seconds) == (3, 3, 6.0)
    assert new.validation == (0.5, 0.6, 0.7)


def test_a_trial_that_is_done_is_tried_and_not_stopped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "search" / "trials" / "0000", done=False)
    listing = RunListing(tmp_path)
    assert (listing.read()[0].status, listing.read()[0].in_search) == ("stopped", False)
    (tmp_path / "search" / "tune.json").write_text("{}")
    (folder / "trial.json").write_text('{"value": 0.7, "epochs": 3}')
    (tried,) = listing.read()
    assert (tried.status, tried.score, tried.in_search, tried.tried) == ("tried", None, True, 0.7)


def test_the_order_is_that_of_the_start_and_not_of_the_names(tmp_path: Path) -> None:
    days = {"b": "02", "d": "04", "a": "03", "c": "01"}
    for name, day in days.items():
        write_run(tmp_path / name, started=f"2026-11-{day}T00:00:00+00:00")
    assert [run.name for run in RunListing(tmp_path).read()] == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("is_alive", "step", "status"),
    [(True, 5, "training"), (True, 10, "evaluating"), (False, 5, "stopped")],
)
def test_the_status_follows_the_process(
    tmp_path: Path, is_alive: bool, step: int, status: str
) -> None:
    folder = write_run(tmp_path / "run", done=False)
    write_mark(folder, pid_started=process_started(os.getpid()) if is_alive else 0.0, step=step)
    assert RunListing(tmp_path).read()[0].status == status


def test_heads_on_features_have_no_epochs_but_a_training_time(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "heads")
    (folder / "metrics.jsonl").unlink()
    recipe = load_recipe("transfer-features")
    (folder / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    heads = {"feature_seconds": 4.0, "head_seconds": 0.5, "heads": [{}]}
    (folder / "heads.json").write_text(json.dumps(heads), encoding="utf-8")
    run = RunListing(tmp_path).read()[0]
    assert (run.status, run.epochs, run.of, run.seconds) == ("finished", 0, 0, 4.5)


@pytest.mark.parametrize("name", ["recipe.toml", "environment.json", "metrics.jsonl"])
def test_a_damaged_run_is_listed_as_such_and_hides_no_other(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "good")
    damaged = write_run(tmp_path / "bad")
    (damaged / name).write_text("{ not what it was", encoding="utf-8")
    by_name = {run.name: run for run in RunListing(tmp_path).read()}
    assert by_name["good"].status == "finished"
    assert by_name["bad"].status == "damaged"
    assert f"{damaged / name}" in by_name["bad"].problem
    assert "damaged" in by_name["bad"].problem


def test_a_list_follows_changes_and_removals(tmp_path: Path) -> None:
    listing = RunListing(tmp_path)
    folder = write_run(tmp_path / "run", done=False)
    assert listing.read()[0].status == "stopped"
    write_run(tmp_path / "other")
    (folder / "evaluation.json").write_text(json.dumps(evaluation(0.9, 0.8, 1.0)))
    assert {run.name: run.status for run in listing.read()} == {
        "run": "finished",
        "other": "finished",
    }
    for path in folder.iterdir():
        path.unlink()
    assert [run.name for run in listing.read()] == ["other"]
