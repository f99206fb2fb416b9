"""How many images may be in the house at once: whoever finds no place is told at the door."""

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


class Slot:
    """What one request holds: images and bytes, given back when it is answered."""

    def __init__(self, places: "Capacity") -> None:
        self._places = places
        self.images = 0
        self.bytes = 0

    def grow(self, *, images: int = 0, size: int = 0) -> None:
        """Take more; raises Full, and takes nothing, where it does not fit."""
        self._places._take(images, size)
        self.images += images
        self.bytes += size


class Capacity:
    """A bounded number of images and bytes between arrival and answer."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.images = 0
        self.bytes = 0
        # When images were answered, lately: how fast places become free.
        self._answered: deque[tuple[float, int]] = deque(maxlen=64)

    @contextmanager
    def enter(self) -> Iterator[Slot]:
        """A place for one image, which can grow; raises Full."""
        place = Slot(self)
        place.grow(images=1)
        try:
            yield place
        finally:
            self.images -= place.images
            self.bytes -= place.bytes
            self._answered.append((time.monotonic(), place.images))

    def retry_after(self) -> int:
        """Whole seconds until what is here now will be answered, at the speed of late."""
        if len(self._answered) < 2:
            return 1
        seconds = time.monotonic() - self._answered[0][0]
        answered = sum(count for _, count in self._answered)
        return min(max(1, math.ceil(self.images * seconds / answered)), _MOST_SECONDS)

    def _take(self, images: int, size: int) -> None:
        if self.images + images > self.max_images or self.bytes + size > self.max_bytes:
            raise Full(self.retry_after())
        self.images += images
        self.bytes += size
