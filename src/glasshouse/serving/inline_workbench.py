"""The workbench below a cell of a notebook, in a process that ends with the kernel."""

import html
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from glasshouse.child_python import child_environment
from glasshouse.errors import UsageError
from glasshouse.serving.notebook_place import notebook_place

# Tells the command that its standard input ends with the process that started it.
ENDS_WITH_INPUT = "GLASSHOUSE_ENDS_WITH_INPUT"
# Of a start on a busy machine.
_START_SECONDS = 120.0
_POLL_SECONDS = 0.1
_HEIGHT = 800

_running: dict[tuple[Path, bool], tuple["subprocess.Popen[bytes]", "InlineWorkbench"]] = {}


@dataclass(frozen=True)
class InlineWorkbench:
    """A workbench that runs: a notebook shows it below the cell, elsewhere its text is a link.

    address: as the browser sees it, with the token that it may need.
    """

    address: str
    is_framed: bool
    height: int = _HEIGHT

    def __str__(self) -> str:
        return self.address

    def _repr_html_(self) -> str:
        address = html.escape(self.address)
        link = f'<a href="{address}" target="_blank" rel="noopener">Open the workbench in a tab</a>'
        if not self.is_framed:
            return link
        return (
            f'<iframe title="Glasshouse" src="{address}" width="100%" height="{self.height}" '
            f'style="border: 0" allow="camera; clipboard-write"></iframe>{link}'
        )


def ui(
    runs: str | Path = "runs", *, read_only: bool = False, height: int = _HEIGHT
) -> InlineWorkbench:
    """Start the workbench for a folder of runs, and show it in the notebook.

    It has a process of its own, which ends with the kernel; training runs continue. Asked again,
    the one that runs is shown. read_only: start, change and remove nothing. height: in pixels.
    Raises UsageError on hosts where no browser reaches it, and for what is no folder.
    """
    folder = Path(runs).resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{runs} is a file: expected the folder with the runs")
    process, found = _running.get((folder, read_only), (None, None))
    if process is None or found is None or process.poll() is not None:
        process, found = _start(folder, read_only=read_only)
        _running[folder, read_only] = process, found
    return InlineWorkbench(found.address, found.is_framed, height)


def _start(folder: Path, *, read_only: bool) -> tuple["subprocess.Popen[bytes]", InlineWorkbench]:
    port = _free_port()
    place = notebook_place(port, os.environ)
    token = secrets.token_urlsafe(32) if place.is_shared else ""
    options = [f"--port={port}", "--no-browser", *place.options]
    options += ["--read-only"] if read_only else []
    options += [] if token else ["--no-token"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "glasshouse", "ui", str(folder), *options],
            env={**child_environment(), "GLASSHOUSE_TOKEN": token, ENDS_WITH_INPUT: "1"},
            # Open for as long as this process lives, however it ends.
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
            # Interrupting a cell must not end it.
            start_new_session=True,
        )  # fmt: skip
        _wait(process, port, errors)
    query = f"?{urlencode({'token': token})}" if token else ""
    return process, InlineWorkbench(f"{place.address}{query}", place.is_framed)


def _wait(process: "subprocess.Popen[bytes]", port: int, errors: IO[bytes]) -> None:
    """Wait until the workbench answers; raises UsageError with what it says if it does not."""
    ends = time.monotonic() + _START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace")[-2000:]
            raise UsageError(f"the workbench did not start: {said}")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_POLL_SECONDS)
    process.kill()
    raise UsageError(f"the workbench did not start within {_START_SECONDS:g} s: try it again")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
