"""What is sent to the page of a run while it trains: the changes, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glasshouse.runs.folder import STEPS
from glasshouse.runs.processes import this_process
from glasshouse.serving import run_watch
from glasshouse.serving.pages import run
from glasshouse.serving.pages.curves import curve_series
from glasshouse.serving.pages.live import change, live_words
from glasshouse.serving.run_watch import Snapshot, snapshot_of
from glasshouse.serving.workbench import Workbench
from tests.runs.test_listing import write_run

Charts = dict[str, dict[str, list[Any]]]


class Growing:
    """A run that appears to train, line by line."""

    def __init__(self, parent: Path) -> None:
        self.folder = write_run(parent / "run", done=False)
        (self.folder / "metrics.jsonl").write_text("")
        self.steps = self.epochs = 0

    def step(self) -> None:
        self.steps += 1
        mark = {
            "time": float(self.steps), "epoch": 1 + self.steps // 10, "epochs": 99,
            "step": 1 + self.steps % 10, "steps": 10, "loss": 1 / self.steps, "accuracy": 0.5,
            "lr": 0.1, "images_per_second": 9.0, **this_process(),
        }  # fmt: skip
        with (self.folder / STEPS).open("a") as file:
            file.write(json.dumps(mark) + "\n")

    def epoch(self) -> None:
        self.epochs += 1
        losses = {"train_loss": 1 / self.epochs, "validation_loss": 2 / self.epochs}
        shares = {"train_accuracy": 0.5, "validation_accuracy": 0.4 + self.epochs / 1000}
        line = {"epoch": self.epochs, "seconds": 2.0, "lr": 0.1, "images_per_second": 9.0}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line | losses | shares) + "\n")


def message(before: Snapshot | None, now: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        change(before, now).removeprefix("glasshouse.live(").removesuffix(")")
    )
    return found


def as_drawn(now: Snapshot) -> Charts:
    charts = curve_series(now)
    return {n: {o["name"]: [list(p) for p in o["data"]] for o in s} for n, s in charts.items()}


def apply(charts: Charts, lines: dict[str, Any]) -> None:
    """The same as the script of the page."""
    for name, changed in lines.items():
        for one in changed:
            kept = charts.setdefault(name, {}).get(one["name"], [])[: one["from"]]
            charts[name][one["name"]] = kept + one["data"]


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    monkeypatch.setattr(run_watch, "_FRESH_SECONDS", 0.0)
    return Growing(tmp_path)


def test_messages_add_up_to_the_current_state(growing: Growing) -> None:
    workbench = Workbench(growing.folder.parent)
    before: Snapshot | None = None
    charts: Charts = {}
    words: dict[str, str] = {}
    for _ in range(300):  # beyond the length at which the curve is thinned
        growing.step()
        if growing.steps % 10 == 0:
            growing.epoch()
        now = snapshot_of(workbench, "run")
        assert now is not None
        found = message(before, now)
        apply(charts, found["charts"])
        words |= found["words"]
        before = now
    assert before is not None and len(before.curve) < 240 < growing.steps
    assert {n: {k: v for k, v in c.items() if v} for n, c in charts.items()} == as_drawn(before)
    assert words == live_words(before)


def test_only_new_points_and_words_are_sent(growing: Growing) -> None:
    workbench = Workbench(growing.folder.parent)
    for _ in range(100):
        growing.step()
    growing.epoch()
    first = snapshot_of(workbench, "run")
    growing.step()
    second = snapshot_of(workbench, "run")
    assert first is not None and second is not None
    assert message(None, first)["charts"]["loss"][0]["from"] == 0
    found = message(first, second)
    assert [(o["name"], o["from"], len(o["data"])) for o in found["charts"]["loss"]] == [
        ("training, per step", 100, 1)
    ]
    assert "Source" not in found["words"] and "share-done" in found["words"]
    assert len(change(first, second)) < 600 < len(change(None, second))
    assert change(first, second) is change(first, second)  # made once for all viewers
    assert message(second, second) == {"words": {}, "charts": {}}


def test_a_restarted_run_clears_its_lines(growing: Growing) -> None:
    workbench = Workbench(growing.folder.parent)
    for _ in range(30):
        growing.step()
    growing.epoch()
    before = snapshot_of(workbench, "run")
    (growing.folder / STEPS).unlink()
    growing.steps = 0
    growing.step()
    now = snapshot_of(workbench, "run")
    assert before is not None and now is not None
    charts = as_drawn(before)
    apply(charts, message(before, now)["charts"])
    assert charts["loss"]["training, per step"] == []
    assert {n: {k: v for k, v in c.items() if v} for n, c in charts.items()} == as_drawn(now)


@pytest.mark.parametrize("now", [0.0, 0.5, 0.999, 1.0, 1.001, 1.999, 1.9999999, 123.456])
def test_pages_refresh_together_and_never_at_once(
    now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: now)
    wait = run._until_next_refresh()
    assert 1.0 <= wait <= 3.0  # a timer that has no pause keeps a processor busy
    assert (now + wait) % 2 == pytest.approx(0, abs=1e-6) or (now + wait) % 2 > 2 - 1e-6


def test_the_best_accuracy_is_named_where_it_is_no_longer_the_last(growing: Growing) -> None:
    shown: list[str] = []
    for accuracy in (0.5, 0.8, 0.7, 0.8):
        line = {
            "epoch": len(shown) + 1, "seconds": 2.0, "lr": 0.1, "images_per_second": 9.0,
            "train_loss": 1.0, "validation_loss": 1.0, "train_accuracy": 0.5,
            "validation_accuracy": accuracy,
        }  # fmt: skip
        with (growing.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        growing.step()
        snapshot = snapshot_of(Workbench(growing.folder.parent), "run")
        assert snapshot is not None
        shown.append(live_words(snapshot)["Validation accuracy"])
    assert shown == ["50.00 %", "80.00 %", "70.00 % (best 80.00 %)", "80.00 %"]


@pytest.mark.parametrize(("epochs", "of", "done"), [(3, 4, 0.75), (0, 4, 0.0), (0, 0, 0.0)])
def test_without_steps_the_finished_share_is_that_of_the_epochs(
    growing: Growing, epochs: int, of: int, done: float
) -> None:
    snapshot = snapshot_of(Workbench(growing.folder.parent), "run")
    assert snapshot is not None and snapshot.mark is None
    listed = replace(snapshot.listed, epochs=epochs, of=of)
    assert replace(snapshot, status="training", listed=listed).done == done
    over = [
        status
        for status in ("waiting", "training", "finished", "evaluating", "failed")
        if replace(snapshot, status=status, has_report=True).is_over
    ]
    assert over == ["finished"]
