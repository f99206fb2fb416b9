"""Fewer threads only where they are clearly faster."""

import time

import pytest
import torch

from glasshouse.models.threads import Measure, fastest_threads, use_fastest_threads


def clock(*seconds: tuple[int, float]) -> Measure:
    """A measurement that gives these seconds in turn, for the number of threads next to each."""
    left = list(seconds)

    def measure(threads: int) -> float:
        expected, found = left.pop(0)
        assert threads == expected
        return found

    return measure


def test_a_free_machine_keeps_all_threads_after_three_rounds() -> None:
    found = fastest_threads(4, clock(*[(2, 0.02), (4, 0.012)] * 3))
    assert found[0] == 4 and found[1] == pytest.approx({2: 0.02, 4: 0.012})


def test_threads_are_halved_as_long_as_that_is_faster() -> None:
    slower = [
        *[(4, 0.01), (8, 0.4)] * 10,
        *[(2, 0.003), (4, 0.01)] * 10,
        *[(1, 0.006), (2, 0.003)] * 3,
    ]
    threads, seconds = fastest_threads(8, clock(*slower))
    assert threads == 2
    assert sorted(seconds) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("most", "tried"),
    [(2, [1]), (3, [2, 1]), (4, [2, 1]), (6, [3, 2, 1]), (7, [4, 2, 1]), (12, [6, 3, 2, 1])],
)
def test_the_numbers_that_are_tried_suit_any_processor(most: int, tried: list[int]) -> None:
    seen: list[int] = []

    def measure(threads: int) -> float:
        seen.append(threads)
        return 0.01 * 2.0**threads

    assert fastest_threads(most, measure)[0] == 1
    assert list(dict.fromkeys(seen)) == [tried[0], most, *tried[1:]]


def test_of_three_threads_two_may_be_the_fastest() -> None:
    # As where another program uses one of three cores.
    rounds = [*[(2, 0.01), (3, 0.2)] * 10, *[(1, 0.02), (2, 0.01)] * 3]
    threads, seconds = fastest_threads(3, clock(*rounds))
    assert threads == 2 and sorted(seconds) == [1, 2, 3]


def test_the_first_round_decides_nothing() -> None:
    # Measured next to two busy programs.
    ratios = (0.61, 2.72, 4.33, 20.82, 1.56, 18.73, 0.69, 0.92, 1.24, 4.36)
    rounds = [pair for ratio in ratios for pair in ((1, 0.01), (2, 0.01 * ratio))]
    assert fastest_threads(2, clock(*rounds))[0] == 1


@pytest.mark.parametrize("pauses", [1, 2, 5])
def test_a_single_pause_of_the_system_decides_nothing(pauses: int) -> None:
    rounds = [[(1, 0.01), (2, 3.0 if number < pauses else 0.006)] for number in range(10)]
    threads, _ = fastest_threads(2, clock(*(pair for each in rounds for pair in each)))
    assert threads == (2 if pauses == 1 else 1)


def test_long_rounds_need_no_others_once_they_are_clear() -> None:
    assert fastest_threads(2, clock((1, 4), (2, 3)))[0] == 2
    assert fastest_threads(2, clock((1, 4), (2, 13)))[0] == 1
    assert fastest_threads(2, clock(*[(1, 4), (2, 4.2)] * 3))[0] == 2


def test_more_rounds_may_be_asked_for_before_a_machine_counts_as_free() -> None:
    rounds = [(1, 0.01), (2, 0.006)] * 3 + [(1, 0.01), (2, 0.1)] * 7
    assert fastest_threads(2, clock(*rounds[:6]))[0] == 2
    assert fastest_threads(2, clock(*rounds), fewest=6)[0] == 1


def test_a_small_gain_is_no_reason_to_change_results() -> None:
    assert fastest_threads(2, clock(*[(1, 0.01), (2, 0.012)] * 10))[0] == 2


def test_one_thread_needs_no_measurement() -> None:
    assert fastest_threads(1, clock()) == (1, {})


@pytest.mark.parametrize("slow", [1, 2])
def test_torch_uses_the_fastest(slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine on which one of the two numbers is many times slower.
    add = torch.Tensor.add_

    def slowed(self: torch.Tensor, other: float) -> torch.Tensor:
        if torch.get_num_threads() == slow:
            # Longer than threads wait for each other on a busy machine.
            time.sleep(0.3)
        result: torch.Tensor = add(self, other)
        return result

    monkeypatch.setattr(torch.Tensor, "add_", slowed)
    torch.set_num_threads(2)
    use_fastest_threads()
    assert torch.get_num_threads() == 3 - slow
