"""Processes, identified by their number and start time, since numbers are reused."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from glasshouse.errors import UsageError


def process_started(pid: int) -> float | None:
    """When a process was started, in seconds; None when it is not running.

    Numbers are reused, but never together with the same start. The value is the same whoever asks
    and whenever; its origin depends on the system.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None  # ended, although its parent has not taken note of it yet
        started = process.create_time()
    except psutil.Error:
        return None
    # Linux knows the ticks since boot, to which psutil adds the time of the boot: that moves when
    # the clock is set, and a process would seem to be another one.
    return round(started - psutil.boot_time() if psutil.LINUX else started, 2)


def is_alive(pid: int, started: float | None) -> bool:
    """True while the process with this number and this start is running."""
    return started is not None and process_started(pid) == started


def _is_ours(pid: int) -> bool:
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    # `python -m glasshouse` in the first case, the path of the script `glasshouse` in the second.
    return any(part == "glasshouse" or Path(part).stem == "glasshouse" for part in command[:3])


def this_process() -> dict[str, Any]:
    """What names this process, as keys of a record: ``pid`` and ``pid_started``."""
    return {"pid": os.getpid(), "pid_started": process_started(os.getpid())}


def ask_to_stop(pid: int, started: float | None) -> None:
    """Ask a process of Glasshouse to save its state and end.

    Raises UsageError when the process with this number has another start, or runs something else:
    the numbers come from files that anyone may have written.
    """
    if not is_alive(pid, started):
        raise UsageError(f"process {pid} has ended already, so there is nothing to stop")
    if not _is_ours(pid):
        raise UsageError(
            f"process {pid} was not started by the command glasshouse: stop it where it was started"
        )
    if sys.platform == "win32":
        # SIGTERM would end it at once there; this one can be caught, as SIGBREAK.
        os.kill(pid, signal.CTRL_BREAK_EVENT)
    else:
        os.kill(pid, signal.SIGTERM)
