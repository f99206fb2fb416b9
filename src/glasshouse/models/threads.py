"""How many threads are fastest at present: fewer where other programs use the processor.

Threads wait for each other after every operation, so that one which shares its core with another
program keeps all others waiting. On two cores at a load of 8, a small network trained 18 times as
slowly with two threads as with one, and the answer for one image took 21 times as long.
"""

import statistics
import time
from collections.abc import Callable

import torch

Measure = Callable[[int], float]

# On a free machine no network gains from fewer threads, down to images of 8x8, so that results,
# whose last bits depend on the number, do not depend on the measurement.
_GAIN = 1.25
# Next to other programs, threads that wake up are served first for a while, so that the first round
# says the opposite of others. One of seconds that is as clear as this needs no other.
_FEWEST, _ROUNDS, _LONG = 3, 10, 0.5
_CLEAR_GAIN, _CLEAR_LOSS = 3.0, 0.8
# Seconds, several time slices of the system, and values that torch divides among threads.
_BURST, _VALUES = 0.015, 1 << 18


def fastest_threads(
    most: int, measure: Measure, *, fewest: int = _FEWEST
) -> tuple[int, dict[int, float]]:
    """The number of threads, and what was measured of it and of others.

    measure: seconds of some work with a number of threads. fewest: rounds in which more threads
    are faster each time, after which the machine counts as free. The number is halved as long as
    that makes the work much faster, and rounded up, so that 2 comes between 3 and 1.
    """
    best = most
    seconds: dict[int, float] = {}
    while best > 1:
        fewer = (best + 1) // 2
        few, many = _compare(measure, fewer, best, fewest)
        seconds |= {fewer: few, best: many}
        if many / few < _GAIN:
            break
        best = fewer
    return best, seconds


def use_fastest_threads() -> None:
    """Let torch compute with fewer threads where that is much faster at present."""
    most = torch.get_num_threads()
    try:
        most, _ = fastest_threads(most, _seconds_of_an_operation)
    finally:
        torch.set_num_threads(most)


def _compare(measure: Measure, fewer: int, more: int, fewest: int) -> tuple[float, float]:
    """Seconds with fewer and with more threads, measured in turns: means without the largest."""
    rounds: list[tuple[float, float]] = []
    while True:
        rounds.append((measure(fewer), measure(more)))
        few, many = (_usual(list(seconds)) for seconds in zip(*rounds, strict=True))
        is_free = len(rounds) >= fewest and all(many < few for few, many in rounds)
        if is_free or len(rounds) == _ROUNDS:
            return few, many
        if min(rounds[-1]) > _LONG:
            is_clear = not _CLEAR_LOSS < many / few < _CLEAR_GAIN
            if is_clear or len(rounds) >= _FEWEST:
                return few, many


def _usual(seconds: list[float]) -> float:
    """The mean, of three or more without the largest: one pause of the system decides nothing."""
    kept = sorted(seconds)
    return statistics.mean(kept[:-1] if len(kept) >= _FEWEST else kept)


def _seconds_of_an_operation(threads: int) -> float:
    torch.set_num_threads(threads)
    values = torch.zeros(_VALUES)
    values.add_(1)  # starts the threads
    started, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < _BURST:
        values.add_(1)
        count += 1
    return seconds / max(1, count)
