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
        chosen = measure(Stopwatch(), narrow, wide, 100)
        # The first image after a change is not counted.
        assert chosen[:20] == [True] * 10 + [False] * 10
        assert set(chosen[20:]) == {wide < narrow}


def test_the_choice_follows_the_machine() -> None:
    stopwatch = Stopwatch()
    measure(stopwatch, 1.0, 2.0, 100)
    # Most of the last times of the other way have to be better before it is taken.
    chosen = measure(stopwatch, 1.0, 0.5, 128 * 6)
    assert 8 <= sum(chosen[: 128 * 4]) <= 10
    assert all(chosen[-64:])
    assert sum(measure(stopwatch, 1.0, 0.5, 1280)) == 1260


def test_a_failure_says_nothing_of_the_threads_and_only_slows() -> None:
    stopwatch = Stopwatch()
    assert stopwatch.seconds == math.inf
    stopwatch.note(2.0, is_wide=True, has_answer=True)
    for seconds in (0.001, 3.0):
        stopwatch.note(seconds, is_wide=False, has_answer=False)
    assert stopwatch.seconds == 3.0
    assert stopwatch.is_wide_faster()
