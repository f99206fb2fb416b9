"""Images that a request brings, before they are decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

# A file of this size is decoded in less time than it takes to hand it over to another thread and
# to wait until that runs.
_QUICK_BYTES = 16 << 10
# A few bytes can have many pixels: up to this number, the event loop may decode them.
SMALL_PIXELS = 256 * 256


@dataclass(frozen=True)
class ImageWork:
    """How to make one image ``(3, h, w)`` of a network's input size.

    make: returns its pixels, or raises BadImage. size: bytes of the file that is decoded; 0 for
    pixels that came as such. make_small: as make, but raises BadImage for more than SMALL_PIXELS;
    None for a format that may take long all the same.
    """

    make: Callable[[], NDArray[Any]]
    size: int = 0
    make_small: Callable[[], NDArray[Any]] | None = None

    @property
    def is_quick(self) -> bool:
        """Whether the thread that runs the network may make it on the way."""
        return self.size <= _QUICK_BYTES
