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

# On a free machine no network gains that much from fewer threads, so that results, whose last bits
# depend on the number, do not depend on the measurement.
_GAIN = 1.5
# A round that is as clear as this needs no other: many times faster, or slower.
_CLEAR_GAIN, _CLEAR_LOSS = 3.0, 0.8
_ROUNDS = 3
# Seconds, several time slices of the system, and values that torch divides among threads.
_BURST, _VALUES = 0.015, 1 << 18


def fastest_threads(most: int, measure: Measure) -> tuple[int, dict[int, float]]:
    """The number of threads, and what was measured of it and of others.

    measure: seconds of some work with a number of threads. The number is halved as long as that
    makes the work much faster.
    """
    best = most
    seconds: dict[int, float] = {}
    while best > 1:
        fewer = best // 2
        few, many = _compare(measure, fewer, best)
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


def _compare(measure: Measure, fewer: int, more: int) -> tuple[float, float]:
    """Seconds with fewer and with more threads, measured in turns: medians over the rounds."""
    rounds: list[tuple[float, float]] = []
    while len(rounds) < _ROUNDS:
        few, many = measure(fewer), measure(more)
        rounds.append((few, many))
        if not _CLEAR_LOSS < many / few < _CLEAR_GAIN:
            break
    return statistics.median(few for few, _ in rounds), statistics.median(m for _, m in rounds)


def _seconds_of_an_operation(threads: int) -> float:
    torch.set_num_threads(threads)
    values = torch.zeros(_VALUES)
    values.add_(1)  # starts the threads
    started, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < _BURST:
        values.add_(1)
        count += 1
    return seconds / max(1, count)
