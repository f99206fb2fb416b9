"""This Python in another process, without the code that lies in the current folder.

``-c`` and ``-m`` put the current folder first in the search path, so that a ``queue.py`` in a
downloaded data set would be run in place of the standard library's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SAFE_PATH = "PYTHONSAFEPATH"
_INSTALLED = ("site-packages", "dist-packages")


def child_environment() -> dict[str, str]:
    """The environment for another process of this Python, which finds this package."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # An empty entry stands for the current folder.
    search = [entry for entry in given if entry]
    package = Path(__file__).resolve().parents[1]
    # Named only where Python would not look: this path comes before the standard library.
    if package.name not in _INSTALLED:
        search.insert(0, str(package))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), _SAFE_PATH: "1"}


@contextmanager
def safe_children() -> Iterator[None]:
    """Protect processes that others start, multiprocessing for example, in the same way."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before
