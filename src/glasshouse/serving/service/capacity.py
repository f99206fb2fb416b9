"""Limits images in flight; rejects the rest."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_MAX_RETRY_SECONDS = 60
_RECENT_REQUESTS = 64


class Full(Exception):
    """No capacity is left; retry_after: whole seconds after which there may be some."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"at capacity; try again in {retry_after} s")
        self.retry_after = retry_after


class Slot:
    """What one request holds: images and bytes, released when it is answered."""

    def __init__(self, capacity: "Capacity") -> None:
        self._capacity = capacity
        self.images: int = 0
        self.bytes: int = 0

    def grow(self, *, images: int = 0, size: int = 0) -> None:
        """Take more; raises Full, and takes nothing, where it does not fit."""
        self._capacity._take(images, size)
        self.images += images
        self.bytes += size


class Capacity:
    """A bounded number of images and bytes between arrival and response.

    Only for the thread of the event loop: without an await between check and change, no lock is
    needed.
    """

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.images: int = 0
        self.bytes: int = 0
        # When the last requests were answered and how many images each held: the throughput.
        self._answered: deque[tuple[float, int]] = deque(maxlen=_RECENT_REQUESTS)

    @contextmanager
    def enter(self) -> Iterator[Slot]:
        """An empty slot, which can grow; raises Full where no image has room."""
        # A request to a full service is refused at once and costs no memory. Its images are only
        # taken once they are there, so that slow senders keep nobody out.
        if self.images >= self.max_images:
            raise Full(self.retry_after())
        slot = Slot(self)
        try:
            yield slot
        finally:
            self.images -= slot.images
            self.bytes -= slot.bytes
            if slot.images:
                self._answered.append((time.monotonic(), slot.images))

    def retry_after(self) -> int:
        """Whole seconds until the images in flight are answered, at the recent throughput."""
        if len(self._answered) < 2:
            return 1
        seconds = time.monotonic() - self._answered[0][0]
        answered = sum(count for _, count in self._answered)
        return min(max(1, math.ceil(self.images * seconds / answered)), _MAX_RETRY_SECONDS)

    def _take(self, images: int, size: int) -> None:
        if self.images + images > self.max_images or self.bytes + size > self.max_bytes:
            raise Full(self.retry_after())
        self.images += images
        self.bytes += size
