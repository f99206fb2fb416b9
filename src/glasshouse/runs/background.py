"""Training in background processes, which outlive whoever started them."""

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from glasshouse.child_python import child_environment
from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.processes import ask_to_stop, is_alive, process_started
from glasshouse.runs.steps import is_running, last_mark
from glasshouse.storage import read_json, write_json

_NAME = re.compile(r"[\w][\w.+-]*(/[\w][\w.+-]*)*")
_LOG_BYTES = 4000
# In front of the arguments: the interpreter, -m and glasshouse. After them: --out and the folder.
_ARGUMENTS, _OUT = 3, 2
# Exists on Windows alone.
_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


LaunchStatus = Literal["starting", "stopped", "failed", "deleted"]


@dataclass(frozen=True)
class Launch:
    """A training process that was started in the background; pid and pid_started identify it.

    was_stopped: someone asked it to stop, so that its end is no failure.
    """

    run: str
    pid: int
    pid_started: float | None
    command: tuple[str, ...]
    was_stopped: bool = False

    @property
    def is_running(self) -> bool:
        """True while its process is running."""
        return is_alive(self.pid, self.pid_started)

    @property
    def source(self) -> str:
        """Where its images come from."""
        return self.command[_ARGUMENTS + 1] if len(self.command) > _ARGUMENTS + 1 else ""


def start_training(
    parent: Path, run: str, source: str, recipe: Path | str, arguments: Sequence[str] = ()
) -> Launch:
    """Start `glasshouse train` with a new run folder parent/run.

    Raises UsageError when the name is invalid or taken.
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
    """Resume a stopped run; raises UsageError when it is still training.

    One that ended before its run folder was complete starts again, with the arguments it had.
    """
    launch = launch_of(parent, run)
    if is_running(last_mark(parent / run)) or (launch is not None and launch.is_running):
        raise UsageError(f"{run} is training already")
    if launch is not None and not (parent / run / runs.ENVIRONMENT).is_file():
        before = [each for each in launch.command[_ARGUMENTS:-_OUT] if each != "--resume"]
        has_begun = (parent / run / runs.RECIPE).is_file()
        return _launch(parent, run, [*before, "--resume"] if has_begun else before)
    recorded = runs.read_run(parent / run)
    source = recorded.source
    if source.startswith("-"):
        # The record may come from anybody, and the command would take it for one of its options.
        raise UsageError(f"{parent / run} does not name a source: {source}")
    # What is given now comes last, and so counts.
    options = (*recorded.data_options, *runs.option_words(recorded.options), *arguments)
    return _launch(parent, run, ["train", source, "--resume", *options])


def stop_training(parent: Path, run: str) -> None:
    """Ask a run to save its state and stop; raises UsageError when it is not training."""
    mark, launch = last_mark(parent / run), launch_of(parent, run)
    if mark is not None and is_running(mark):
        ask_to_stop(mark.pid, mark.pid_started)
    elif launch is not None and launch.is_running:
        # Recorded before the signal: a process that still reads images ends without a word.
        write_json(_record_path(parent, run), asdict(replace(launch, was_stopped=True)))
        ask_to_stop(launch.pid, launch.pid_started)
    else:
        raise UsageError(f"{run} is not training, so there is nothing to stop")


def launch_of(parent: Path, run: str) -> Launch | None:
    """The last background launch of a run, or None."""
    try:
        record = read_json(_record_path(parent, run))
        return Launch(**{**record, "command": tuple(record["command"])})
    except (GlasshouseError, TypeError, KeyError):
        return None


def status_without_folder(parent: Path, launch: Launch) -> LaunchStatus | None:
    """The status of a launched run that has no folder; None when it had one, deleted since."""
    # Once training begins, the output names the run folder; an error message may do so earlier.
    begun = any(
        str(parent / launch.run) in line and not line.startswith("glasshouse: ")
        for line in _log(parent, launch.run).splitlines()
    )
    if launch.is_running:
        return "deleted" if begun else "starting"
    if begun:
        return None
    return "stopped" if launch.was_stopped else "failed"


def forget_launch(parent: Path, run: str) -> None:
    """Forget a launch that came to nothing; raises UsageError for one that runs or has a folder."""
    launch = launch_of(parent, run)
    if launch is None or launch.is_running or not runs.is_free(parent / run):
        raise UsageError(f"{run} is training or has a folder with results, so it stays in the list")
    record = _record_path(parent, run)
    for path in (record, record.with_name(f"{Path(run).name}.log")):
        path.unlink(missing_ok=True)


def launches(parent: Path) -> list[Launch]:
    """Every run that was ever started in the background here."""
    folder = parent / runs.BACKGROUND
    names = [path.relative_to(folder).as_posix()[:-5] for path in folder.glob("**/*.json")]
    return [launch for name in names if (launch := launch_of(parent, name))]


def log_end(parent: Path, run: str) -> str:
    """The end of the output of a run in the background."""
    return _log(parent, run)[-_LOG_BYTES:].strip()


def _log(parent: Path, run: str) -> str:
    path = _record_path(parent, run).with_name(f"{Path(run).name}.log")
    try:
        return path.read_bytes().decode("utf-8", "replace")
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
            env=child_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            # A session of its own, so that it survives the end of the terminal or server; a group
            # of its own on Windows, which ignores sessions.
            start_new_session=True,
            creationflags=_NEW_GROUP,
        )
    # A child that nobody waits for stays behind as a zombie and would look alive.
    threading.Thread(target=process.wait, daemon=True).start()
    launch = Launch(
        run=run,
        pid=process.pid,
        pid_started=process_started(process.pid),
        command=tuple(command),
    )
    write_json(record, asdict(launch))
    return launch


def _record_path(parent: Path, run: str) -> Path:
    return parent / runs.BACKGROUND / f"{run}.json"
