"""Settings of the memory allocator of this process."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Reuse freed memory instead of returning it to the system; only with glibc on Linux.

    Every training step allocates and frees the same large tensors. By default, glibc maps each of
    them anew and the system clears every page, which takes up to a third of the time of a step on
    a CPU. On other systems this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
