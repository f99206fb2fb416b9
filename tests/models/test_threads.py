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


def test_a_free_machine_keeps_all_threads_after_one_round() -> None:
    found = fastest_threads(4, clock((2, 0.02), (4, 0.012)))
    assert found == (4, {2: 0.02, 4: 0.012})


def test_threads_are_halved_as_long_as_that_is_much_faster() -> None:
    measure = clock((4, 0.01), (8, 0.4), (2, 0.003), (4, 0.01), (1, 0.006), (2, 0.003))
    threads, seconds = fastest_threads(8, measure)
    assert threads == 2
    assert sorted(seconds) == [1, 2, 4, 8]


@pytest.mark.parametrize(("slow_rounds", "threads"), [(1, 2), (2, 1)])
def test_one_round_that_is_not_clear_decides_nothing(slow_rounds: int, threads: int) -> None:
    rounds = [(1, 0.01), (2, 0.02)] * slow_rounds + [(1, 0.01), (2, 0.011)] * (3 - slow_rounds)
    assert fastest_threads(2, clock(*rounds))[0] == threads


def test_a_small_gain_is_no_reason_to_change_results() -> None:
    assert fastest_threads(2, clock(*[(1, 0.01), (2, 0.0145)] * 3))[0] == 2


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
