"""Trials of a search that fall behind the median are stopped, which is no failure."""

from pathlib import Path
from typing import Any

import pytest

from glasshouse.recipe import load_recipe
from glasshouse.workflow.tune import study as studies
from glasshouse.workflow.tune.space import parse_search
from glasshouse.workflow.tune.worker import Ended, Reached, Task, trial_messages

EPOCHS = 4


def accuracies(level: float) -> list[float]:
    return [level + 0.01 * epoch for epoch in range(EPOCHS)]


@pytest.mark.parametrize("prune", [True, False])
def test_a_trial_below_the_median_is_stopped_after_its_first_epoch(
    prune: bool, tmp_path: Path
) -> None:
    study = studies.open_study(tmp_path, prune=prune)
    space = [parse_search("train.lr=1..2")]
    for level in (0.5, 0.6, 0.7, 0.8, 0.9):
        trial = studies.next_trial(study, space, 0)
        assert all(studies.report(trial, n, v) for n, v in enumerate(accuracies(level), start=1))
        studies.close_trial(study, trial, level, pruned=False)
    good, bad = studies.next_trial(study, space, 0), studies.next_trial(study, space, 0)
    assert all(studies.report(good, n, v) for n, v in enumerate(accuracies(0.75), start=1))
    answers = [studies.report(bad, n, v) for n, v in enumerate(accuracies(0.1), start=1)]
    assert answers == ([True, False, False, False] if prune else [True] * EPOCHS)
    studies.close_trial(study, bad, None, pruned=prune)
    record = studies.records(study)[bad.number]
    assert record.state == ("pruned" if prune else "failed")
    assert record.value == (pytest.approx(0.13) if prune else None)


@pytest.mark.parametrize(("enough", "was_pruned"), [(2, True), (EPOCHS, False)])
def test_a_worker_stops_where_it_is_told_to(enough: int, was_pruned: bool, tmp_path: Path) -> None:
    small = ["data.train_limit=64", "train.device=cpu", f"train.epochs={EPOCHS}"]
    recipe: Any = load_recipe("small-cnn", small).model_dump(mode="json", exclude_none=True)
    messages = trial_messages(Task("digits", recipe, tmp_path / "0000", None, True))
    heard, message = 0, next(messages)
    while isinstance(message, Reached):
        heard += 1
        assert message.epoch == heard
        message = messages.send(heard < enough)
    ended = message
    assert isinstance(ended, Ended) and list(messages) == []
    assert heard == enough
    assert (ended.epochs, ended.was_pruned) == (enough, was_pruned)
    assert ended.value is not None and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("folder", ["../../elsewhere", "/tmp/elsewhere", ".."])
def test_a_journal_of_somebody_else_leads_out_of_no_folder(tmp_path: Path, folder: str) -> None:
    study = studies.open_study(tmp_path, prune=False)
    study.enqueue_trial({"train.lr": 0.1}, user_attrs={"folder": folder})
    assert studies.next_trial(study, [parse_search("train.lr=0.1..1")], 0).folder == "0000"
