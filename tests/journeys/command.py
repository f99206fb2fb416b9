"""Run the real command, in a process of its own or in this one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glasshouse.cli.main import main

# The environment of a user's shell, with one thread so that journeys do not compete for the cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
COMMAND = [sys.executable, "-m", "glasshouse"]
# Only a test that hangs takes this long, also on a machine that is busy with other work.
LONGEST_S = 600


def glasshouse(
    *arguments: str | Path, cwd: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and require the exit code."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=own_environment(cwd), capture_output=True, text=True, check=False,
        timeout=LONGEST_S,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def glasshouse_here(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run the command in this process, which saves the start-up: exit code, output and errors."""
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


def start(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    """Start the command without waiting for it; its output is collected."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=own_environment(cwd), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_file(folder: Path, pattern: str, process: "subprocess.Popen[str]") -> None:
    """Return once a path in the folder matches the pattern or the process has ended."""
    deadline = time.monotonic() + LONGEST_S
    while not list(folder.glob(pattern)) and process.poll() is None:
        assert time.monotonic() < deadline, f"{pattern} never appeared in {folder}"
        time.sleep(0.01)


def glasshouse_signalled(
    *arguments: str | Path, cwd: Path, number: signal.Signals, out: Path, when: str
) -> subprocess.CompletedProcess[str]:
    """Run the command and send it the signal once a path in `out` matches the pattern `when`.

    On a busy machine the command may have ended before the signal reached it: then `out` is removed
    and the command started again.
    """
    for _ in range(10):
        process = start(*arguments, cwd=cwd)
        wait_for_file(out, when, process)
        process.send_signal(number)
        output, errors = process.communicate(timeout=LONGEST_S)
        if process.returncode != 0:
            break
        shutil.rmtree(out)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def own_environment(cwd: Path) -> dict[str, str]:
    """The environment of a user's shell with its own cache, and without this machine's images."""
    own = {k: v for k, v in ENVIRONMENT.items() if k != "GLASSHOUSE_DATA"}
    return {**own, "GLASSHOUSE_CACHE": str(cwd / "cache")}
