"""Run the real command in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glasshouse.cli.main import main

# What a user's shell would have, with one thread so that journeys do not fight for the processor.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
COMMAND = [sys.executable, "-m", "glasshouse"]


def glasshouse(
    *arguments: str | Path, cwd: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run to the end and require the exit code."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=own_environment(cwd), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def glasshouse_here(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """The same command in this process, which starts at once: code, output and errors."""
    before = sys.argv
    sys.argv = ["glasshouse", *arguments]
    try:
        main()
        code: object = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    output, errors = capsys.readouterr()
    assert "Traceback" not in errors
    return int(str(code or 0)), output, errors


def glasshouse_signalled(
    *arguments: str | Path, cwd: Path, number: signal.Signals, when: Path
) -> subprocess.CompletedProcess[str]:
    """Start, wait until a path matching a pattern exists, send the signal, wait for the end."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=own_environment(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(when.parent.glob(when.name)) and process.poll() is None:
        assert time.monotonic() < deadline, f"{when} never came"
        time.sleep(0.01)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def own_environment(cwd: Path) -> dict[str, str]:
    """What a user's shell would have, with a cache of its own and no real images."""
    # No run may depend on images that lie on this machine.
    own = {k: v for k, v in ENVIRONMENT.items() if k != "GLASSHOUSE_DATA"}
    return {**own, "GLASSHOUSE_CACHE": str(cwd / "cache")}
