"""The process's own memory allocator, told to keep what it has."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Have freed memory used again rather than given back to the system; glibc on Linux only.

    A training step allocates and frees the same large tensors each time. By default glibc maps
    each of them anew and the system clears every page, which costs up to a third of the time of
    a step on a CPU. Elsewhere this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
