import signal
from collections.abc import Callable

import pytest

from glasshouse.training.common_signal import common_signal
from glasshouse.training.loop import Step
from glasshouse.training.process_group import ALONE, ProcessGroup
from glasshouse.training.state import Epoch

STEP, LAST = Step(1, 1, 100, 32, 0.1), Step(1, 2, 100, 64, 0.1, is_asked_to_stop=True)
EPOCH = Epoch(1, 0.5, 0.5, 0.5, 0.5, 0.1, 1.0, 100.0)
PAIR = ProcessGroup(0, 2)


def received(*numbers: int) -> Callable[[], int | None]:
    return lambda: max(numbers, default=None)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the other process of a pair, which has received SIGTERM, is asked."""
    numbers: list[int] = []

    def highest(group: ProcessGroup, number: int) -> int:
        numbers.append(number)
        return max(number, signal.SIGTERM)

    monkeypatch.setattr(ProcessGroup, "highest", highest)
    return numbers


@pytest.mark.parametrize("record", [STEP, EPOCH])
def test_alone_a_process_notices_its_own_signal_at_once(record: Step | Epoch) -> None:
    assert common_signal(record, ALONE, received()) == 0
    assert common_signal(record, ALONE, received(signal.SIGINT)) == signal.SIGINT


def test_processes_ask_each_other_where_a_step_says_so(heard: list[int]) -> None:
    # Its own signal is not enough: the others would train on and wait for this process.
    assert common_signal(STEP, PAIR, received(signal.SIGINT)) == 0
    assert heard == []
    assert common_signal(LAST, PAIR, received(signal.SIGINT)) == signal.SIGTERM
    assert common_signal(LAST, PAIR, received()) == signal.SIGTERM
    assert heard == [signal.SIGINT, 0]


def test_processes_ask_each_other_at_the_end_of_an_epoch(heard: list[int]) -> None:
    assert common_signal(EPOCH, PAIR, received()) == signal.SIGTERM
    assert heard == [0]
