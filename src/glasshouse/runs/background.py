"""Trainings in processes of their own, which go on when whoever started them has ended."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.processes import process_started
from glasshouse.runs.steps import is_running, last_mark
from glasshouse.storage import read_json, write_json

_NAME = re.compile(r"[\w][\w.+-]*(/[\w][\w.+-]*)*")
_LOG_BYTES = 4000


@dataclass(frozen=True)
class Launch:
    """A training that was started in the background; pid and pid_started name its process."""

    run: str
    pid: int
    pid_started: str | None
    command: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """True while its process is there."""
        return self.pid_started is not None and process_started(self.pid) == self.pid_started


def start_training(
    parent: Path, run: str, source: str, recipe: Path | str, arguments: Sequence[str] = ()
) -> Launch:
    """Start `glasshouse train` into a new folder parent/run.

    Raises UsageError when the name does not fit or is taken.
    """
    if not _NAME.fullmatch(run):
        raise UsageError(
            f"'{run}' cannot name a run: use letters, digits, dots, dashes and underscores, and "
            "begin with a letter or digit"
        )
    before = launch_of(parent, run)
    if not runs.is_free(parent / run) or (before is not None and before.is_running):
        raise UsageError(f"there is already a run named {run} in {parent}: choose another name")
    return _launch(parent, run, ["train", source, "--recipe", str(recipe), *arguments])


def resume_training(parent: Path, run: str, arguments: Sequence[str] = ()) -> Launch:
    """Go on with a run that was stopped; raises UsageError when it is still at work."""
    recorded = runs.read_run(parent / run)
    if is_running(last_mark(parent / run)):
        raise UsageError(f"{run} is at work already")
    source = str(recorded.environment["data"]["source"])
    return _launch(parent, run, ["train", source, "--resume", *arguments])


def stop_training(parent: Path, run: str) -> None:
    """Ask a training to save its state and end; raises UsageError when it does not run."""
    mark, launch = last_mark(parent / run), launch_of(parent, run)
    if mark is not None and is_running(mark):
        os.kill(mark.pid, signal.SIGTERM)
    elif launch is not None and launch.is_running:
        os.kill(launch.pid, signal.SIGTERM)
    else:
        raise UsageError(f"{run} is not at work, so there is nothing to stop")


def launch_of(parent: Path, run: str) -> Launch | None:
    """The last start of a run in the background, or None."""
    try:
        record = read_json(_record_path(parent, run))
        return Launch(**{**record, "command": tuple(record["command"])})
    except (GlasshouseError, TypeError, KeyError):
        return None


def launches(parent: Path) -> list[Launch]:
    """Every run that was ever started in the background here."""
    folder = parent / runs.BACKGROUND
    names = [path.relative_to(folder).as_posix()[:-5] for path in folder.glob("**/*.json")]
    return [launch for name in names if (launch := launch_of(parent, name))]


def log_end(parent: Path, run: str) -> str:
    """The last lines that a training in the background said."""
    path = _record_path(parent, run).with_name(f"{Path(run).name}.log")
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _launch(parent: Path, run: str, arguments: list[str]) -> Launch:
    record = _record_path(parent, run)
    record.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "glasshouse", *arguments, "--out", str(parent / run)]
    with record.with_name(f"{Path(run).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its own session: the end of the terminal or of the server does not reach it.
            start_new_session=True,
        )
    # Whoever started a process has to take note of its end.
    threading.Thread(target=process.wait, daemon=True).start()
    launch = Launch(run, process.pid, process_started(process.pid), tuple(command))
    write_json(record, asdict(launch))
    return launch


def _record_path(parent: Path, run: str) -> Path:
    return parent / runs.BACKGROUND / f"{run}.json"
