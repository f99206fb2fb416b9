"""Processes by their number and their start, which together name one for good."""

import os
import subprocess
from pathlib import Path
from typing import Any


def process_started(pid: int) -> str | None:
    """When a process was started, as the system tells it; None when it does not run.

    Together with its number this names a process for good: numbers are used again.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name, in brackets, may hold anything, so fields count from the last bracket.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def this_process() -> dict[str, Any]:
    """What names this process: its number and its start."""
    return {"pid": os.getpid(), "pid_started": process_started(os.getpid())}
