"""How many pictures may be in the house at once: whoever finds no place is told at the door."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_SECONDS = 60


class Full(Exception):
    """There is no place; retry_after: whole seconds after which there may be one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no place; try again in {retry_after} s")
        self.retry_after = retry_after


class Place:
    """What one request holds: pictures and bytes, given back when it is answered."""

    def __init__(self, places: "Places") -> None:
        self._places = places
        self.pictures = 0
        self.bytes = 0

    def grow(self, *, pictures: int = 0, size: int = 0) -> None:
        """Take more; raises Full, and takes nothing, where it does not fit."""
        self._places._take(pictures, size)
        self.pictures += pictures
        self.bytes += size


class Places:
    """A bounded number of pictures and bytes between arrival and answer."""

    def __init__(self, max_pictures: int, max_bytes: int) -> None:
        self.max_pictures = max_pictures
        self.max_bytes = max_bytes
        self.pictures = 0
        self.bytes = 0
        # When pictures were answered, lately: how fast places become free.
        self._answered: deque[tuple[float, int]] = deque(maxlen=64)

    @contextmanager
    def enter(self) -> Iterator[Place]:
        """A place for one picture, which can grow; raises Full."""
        place = Place(self)
        place.grow(pictures=1)
        try:
            yield place
        finally:
            self.pictures -= place.pictures
            self.bytes -= place.bytes
            self._answered.append((time.monotonic(), place.pictures))

    def retry_after(self) -> int:
        """Whole seconds until what is here now will be answered, at the speed of late."""
        if len(self._answered) < 2:
            return 1
        seconds = time.monotonic() - self._answered[0][0]
        answered = sum(count for _, count in self._answered)
        return min(max(1, math.ceil(self.pictures * seconds / answered)), _MOST_SECONDS)

    def _take(self, pictures: int, size: int) -> None:
        if self.pictures + pictures > self.max_pictures or self.bytes + size > self.max_bytes:
            raise Full(self.retry_after())
        self.pictures += pictures
        self.bytes += size
