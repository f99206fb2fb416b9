"""Results of steps are read together, rarely, and add up to those of each step."""

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch

from glasshouse.errors import DivergedError
from glasshouse.training.process_group import ALONE, ProcessGroup
from glasshouse.training.results import Counted, StepResult, UnreadResults, when_read

GENERATOR = torch.Generator().manual_seed(0)


def result(step: int, loss: float, count: int = 4, labels: Any = None) -> StepResult:
    logits = torch.randn(count, 3, generator=GENERATOR)
    labels = logits.argmax(dim=1) if labels is None else labels
    return StepResult(1, step, torch.tensor(loss), logits, labels, lambda: f"Images of {step}.")


def test_sums_are_in_order_and_counts_are_of_all_images() -> None:
    unread = UnreadResults()
    unread.add(result(1, 0.5))
    wrong = result(2, 0.25, count=2)
    unread.add(StepResult(1, 2, wrong.loss, wrong.logits, 2 - wrong.labels, wrong.names))
    assert isinstance(wrong.logits, torch.Tensor)
    right = int((wrong.logits.argmax(dim=1) == 2 - wrong.labels).sum())
    assert unread.read() == ([2.0, 0.5], 4 + right)
    assert unread.read() == ([], 0)


def test_batches_in_shards_bring_their_counts() -> None:
    unread = UnreadResults()
    for step, (loss, images, correct) in enumerate([(0.5, 8, 3.0), (0.25, 6, 5.0)], 1):
        answers = Counted(images, torch.tensor(correct), torch.tensor(0.0))
        unread.add(StepResult(1, step, torch.tensor(loss), answers, None, str))
    assert unread.read() == ([4.0, 1.5], 8.0)


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], torch.rand(4)])
def test_labels_that_are_no_classes_count_as_nan(labels: Any) -> None:
    unread = UnreadResults()
    unread.add(result(1, 0.5, labels=labels))
    unread.add(result(2, 0.5))
    assert math.isnan(unread.read()[1])


def test_the_first_loss_that_is_not_finite_is_named() -> None:
    unread = UnreadResults()
    for step, loss in enumerate((0.5, math.inf, math.nan), 1):
        unread.add(result(step, loss))
    with pytest.raises(DivergedError, match=r"became inf in epoch 1, step 2\. Images of 2\."):
        unread.read()


def test_results_are_due_once_a_second_and_before_they_take_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("glasshouse.training.results.time.monotonic", lambda: now)
    unread = UnreadResults()
    unread.add(result(1, 0.5))
    assert not unread.is_due()
    now = 100.99
    assert not unread.is_due()
    now = 101.0
    assert unread.is_due()
    unread.read()
    assert not unread.is_due()
    # Together 2 ** 20 logits, of three each.
    for count, is_due in ((2**18 // 3, False), (2**18, False), (2, True)):
        unread.add(result(2, 0.5, count=count))
        assert unread.is_due() == is_due
    unread.read()
    assert not unread.is_due()
    # What was cut into shards has left no logits.
    counted = Counted(2**21, torch.tensor(1.0), torch.tensor(0.0))
    unread.add(StepResult(1, 3, torch.tensor(0.5), counted, None, str))
    assert not unread.is_due() and len(counted) == 2**21


def test_labels_of_several_kinds_are_counted_one_by_one() -> None:
    unread = UnreadResults()
    several = torch.tensor([[True, False, True], [False, False, False]])
    logits = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, 1.0]])
    unread.add(StepResult(1, 1, torch.tensor(0.5), logits, several, str))
    unread.add(result(2, 0.5, count=3))
    assert unread.read() == ([1.0, 1.5], 4.0)


def steps_of_reads(
    monkeypatch: pytest.MonkeyPatch, group: ProcessGroup, seconds: Callable[[int], float]
) -> list[int]:
    """After which of 400 steps on a GPU, counted from 1, results are read.

    seconds: how long a step takes.
    """
    now = 0.0
    monkeypatch.setattr("glasshouse.training.results.time.monotonic", lambda: now)
    unread = UnreadResults()
    reads, found = when_read(unread, group, torch.device("cuda")), []
    for step in range(1, 401):
        now += seconds(step)
        if next(reads):
            found.append(step)
            unread.read()
    return found


def test_one_process_reads_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_of_reads(monkeypatch, ALONE, lambda step: 0.0625) == list(range(16, 401, 16))


def test_several_processes_read_once_a_second_after_the_same_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []

    def tell(group: ProcessGroup, steps: int) -> int:
        told.append(steps)
        return steps

    monkeypatch.setattr(ProcessGroup, "told", tell)
    first = steps_of_reads(monkeypatch, ProcessGroup(0, 2), lambda step: 0.0625)
    assert first[:7] == [1, 3, 7, 15, 31, 47, 63] and max(told) == 16
    # Slow steps at last, as beside other work: after one late reading, in time again.
    slow = steps_of_reads(monkeypatch, ProcessGroup(0, 2), lambda s: 0.0625 if s < 100 else 0.5)
    assert slow[-1] - slow[-2] == 2
    # The others do what the first process says, however fast they are themselves.
    said = iter([3, 5, 7])
    monkeypatch.setattr(ProcessGroup, "told", lambda group, steps: next(said, 1000))
    assert steps_of_reads(monkeypatch, ProcessGroup(1, 2), lambda step: 99.0) == [1, 4, 9, 16]


def test_several_processes_on_processors_read_after_each_step() -> None:
    reads = when_read(UnreadResults(), ProcessGroup(1, 2), torch.device("cpu"))
    assert list(islice(reads, 50)) == [True] * 50
