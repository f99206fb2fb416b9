"""Settings of the memory allocator of this process."""

import ctypes
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Reuse freed memory instead of returning it to the system; only with glibc on Linux.

    Every training step allocates and frees the same large tensors. By default, glibc maps each of
    them anew and the system clears every page, which takes up to a third of the time of a step on
    a CPU. On other systems this does nothing.
    """
    if mallopt := _of_glibc("mallopt"):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def return_freed_memory() -> None:
    """Give the system back what is free now, once; the reverse of `keep_freed_memory`.

    For processes that live long: what they kept from their busiest moments would stay.
    """
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(ctypes.c_size_t(0))


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the allocator, which other systems and libraries (musl) do not have."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
