import math

from glasshouse.serving.service.stopwatch import Stopwatch


def measure(stopwatch: Stopwatch, narrow: float, wide: float, count: int) -> list[bool]:
    """Classify images alone that take so long with the usual threads and with twice as many."""
    chosen = []
    for _ in range(count):
        is_wide = stopwatch.is_wide_faster()
        stopwatch.note(wide if is_wide else narrow, is_wide=is_wide, has_answer=True)
        chosen.append(is_wide)
    return chosen


def test_both_ways_are_tried_then_the_faster_one_is_taken() -> None:
    for narrow, wide in ((1.0, 2.0), (2.0, 1.0)):
        chosen = measure(Stopwatch(), narrow, wide, 60)
        assert sum(chosen[:18]) == 9
        assert set(chosen[18:]) == {wide < narrow}


def test_the_choice_follows_the_machine() -> None:
    stopwatch = Stopwatch()
    measure(stopwatch, 1.0, 2.0, 60)
    # Most of the last times of the other way have to be better before it is taken.
    chosen = measure(stopwatch, 1.0, 0.5, 64 * 6)
    assert 4 <= sum(chosen[: 64 * 4]) <= 5
    assert all(chosen[-32:])
    assert sum(measure(stopwatch, 1.0, 0.5, 640)) == 630


def test_a_failure_says_nothing_of_the_threads_and_only_slows() -> None:
    stopwatch = Stopwatch()
    assert stopwatch.seconds == math.inf
    stopwatch.note(2.0, is_wide=True, has_answer=True)
    for seconds in (0.001, 3.0):
        stopwatch.note(seconds, is_wide=False, has_answer=False)
    assert stopwatch.seconds == 3.0
    assert measure(stopwatch, 1.0, 1.0, 1) == [False]
