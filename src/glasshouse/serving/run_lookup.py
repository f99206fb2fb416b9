"""Runs by their names and as a list, read without torch."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.listing import Listed, RunListing
from glasshouse.serving.workbench import Workbench

_FRESH_SECONDS = 1.0


@dataclass
class _CachedListing:
    """The runs below one folder, and when they were read."""

    listing: RunListing
    runs: list[Listed] = field(default_factory=list)
    read_at: float = -_FRESH_SECONDS


_lock = threading.Lock()
_listings: dict[Path, _CachedListing] = {}


def run_folder(workbench: Workbench, name: str) -> Path:
    """The folder of a run by its name, which never leads outside the folder of runs.

    Raises UsageError when there is no such run.
    """
    try:
        folder = (workbench.runs / name).resolve()
        is_inside = folder.is_relative_to(workbench.runs.resolve())
        is_run = is_inside and (folder / runs.RECIPE).is_file()
    # A name from an address may hold what no path can: a null byte, or a loop of links.
    except (OSError, ValueError, RuntimeError):
        is_run = False
    if not is_run:
        raise UsageError(f"There is no run named {name} in {workbench.runs}.")
    return folder


def listed_runs(workbench: Workbench) -> list[Listed]:
    """Every run, newest first; read at most once per second, however many pages are open."""
    with _lock:
        cached = _listings.setdefault(workbench.runs, _CachedListing(RunListing(workbench.runs)))
        if time.monotonic() - cached.read_at >= _FRESH_SECONDS:
            cached.runs = cached.listing.read()
            cached.read_at = time.monotonic()
        return cached.runs
