"""How long an image takes that is classified alone, and with how many threads it takes least."""

import math
from collections import deque
from statistics import median

# Times that are compared, and how often the slower way is tried again, for two images.
_KEPT, _EVERY = 9, 128


class Stopwatch:
    """The speed of one model; seconds: of the last image, infinite before the first.

    Threads that wait for each other after every layer are faster on some machines and slower on
    others, where a core is also needed by the clients, or takes long to wake up.
    """

    def __init__(self) -> None:
        self.seconds = math.inf
        self._times: dict[bool, deque[float]] = {
            is_wide: deque(maxlen=_KEPT) for is_wide in (False, True)
        }
        self._asked = 0
        self._before: bool | None = None

    def is_wide_faster(self) -> bool:
        """Whether the next image should have twice as many threads.

        It should if the last images were faster with them; once in a while the other way is tried.
        """
        self._asked += 1
        narrow, wide = self._times[False], self._times[True]
        if min(len(narrow), len(wide)) < _KEPT:
            return len(wide) < _KEPT
        return (median(wide) < median(narrow)) != (self._asked % _EVERY < 2)

    def note(self, seconds: float, *, is_wide: bool, has_answer: bool) -> None:
        """Take note of an image; one that failed, perhaps at once, can only make it longer."""
        self.seconds = seconds if has_answer else max(seconds, self.seconds)
        # The first image after a change waits for threads that have to be made.
        if has_answer and is_wide == self._before:
            self._times[is_wide].append(seconds)
        self._before = is_wide
