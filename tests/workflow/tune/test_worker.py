import multiprocessing
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glasshouse.recipe import load_recipe
from glasshouse.workflow.tune import worker
from glasshouse.workflow.tune.worker import (
    Ended,
    Messages,
    Reached,
    Task,
    _orphaned,
    trial_messages,
)


@pytest.mark.parametrize(("is_alive", "expected"), [(True, None), (False, signal.SIGTERM)])
def test_a_worker_stops_once_its_search_has_died(
    is_alive: bool, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = SimpleNamespace(is_alive=lambda: is_alive)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: search)
    assert _orphaned() == expected


def test_training_outside_a_worker_process_is_not_orphaned() -> None:
    assert multiprocessing.parent_process() is None
    assert _orphaned() is None


def several_labels(folder: Path) -> Messages:
    changes = ["data.train_limit=96", "train.device=cpu", "train.precision=fp32", "train.epochs=3"]
    recipe: Any = load_recipe("small-cnn", changes).model_dump(mode="json", exclude_none=True)
    return trial_messages(Task("shapes-multi", recipe, folder, None, True))


def heard(messages: Messages, most: int) -> list[Reached | Ended]:
    found = [next(messages)]
    while len(found) < most and isinstance(found[-1], Reached):
        found.append(messages.send(True))
    messages.close()
    return found


@pytest.mark.slow
def test_a_resumed_trial_with_several_labels_reports_the_scores_of_each_epoch_again(
    tmp_path: Path,
) -> None:
    torch.set_num_threads(1)
    whole = heard(several_labels(tmp_path / "whole"), 9)
    assert [type(each) for each in whole] == [Reached] * 3 + [Ended]
    assert len({each.score for each in whole if isinstance(each, Reached)}) == 3
    assert heard(several_labels(tmp_path / "lost"), 3) == whole[:3]
    assert heard(several_labels(tmp_path / "lost"), 9) == whole


def test_a_trial_that_fills_the_memory_of_a_gpu_has_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fills(task: Task) -> Messages:
        yield Reached(1, 0.5)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(worker, "_trained", fills)
    found = heard(trial_messages(Task("digits", {}, tmp_path, None, True)), 9)
    problem = "the GPU's memory is full: end other programs that use it, or use --device cpu"
    assert found == [Reached(1, 0.5), Ended(None, 0, problem)]
