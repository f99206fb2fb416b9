"""What a page that watches a run shows: read once for all who look, however many they are."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glasshouse.serving.workbench import Workbench
from glasshouse.workflow import runs
from glasshouse.workflow.background import launch_of, log_end
from glasshouse.workflow.listing import Listed, list_run
from glasshouse.workflow.steps import STEPS, Mark, StepReader

_FRESH_SECONDS = 1.0
_MOST_EPOCHS = 400

Curve = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, eq=False)  # one at a time for each version, so being the same will do
class Snapshot:
    """A run at one moment; version changes when anything else does.

    status: that of the list, or "starting" and "failed" for a run without a folder yet. epochs:
    the lines of metrics.jsonl, at most some hundreds, evenly chosen. curve: rows of position in
    epochs, loss, accuracy and rate. log: the end of what a training in the background said.
    """

    version: int
    status: str
    listed: Listed
    epochs: tuple[dict[str, Any], ...] = ()
    curve: Curve = ()
    mark: Mark | None = None
    seconds_left: float | None = None
    log: str = ""

    @property
    def is_at_work(self) -> bool:
        """True while something may still change by itself."""
        return self.status in ("starting", "training", "measuring")

    @property
    def done(self) -> float:
        """The share of training that is done, 0 to 1."""
        if self.status in ("finished", "measuring"):
            return 1.0
        if self.mark is not None:
            return self.mark.position / self.mark.epochs
        return self.listed.epochs / self.listed.of if self.listed.of else 0.0


@dataclass
class _Watch:
    """One run and what was last read of it."""

    reader: StepReader
    read_at: float = -1.0
    signature: tuple[Any, ...] = ()
    snapshot: Snapshot | None = field(default=None)


_watches: dict[tuple[Path, str], _Watch] = {}


def snapshot_of(workbench: Workbench, name: str) -> Snapshot | None:
    """The run as it is now, not more than a second old; None when there is no such run."""
    folder = workbench.runs / name
    key = (workbench.runs, name)
    watch = _watches.setdefault(key, _Watch(StepReader(folder / STEPS)))
    if time.monotonic() - watch.read_at >= _FRESH_SECONDS:
        watch.read_at = time.monotonic()
        _read(watch, workbench, name)
    if watch.snapshot is None:
        del _watches[key]
    return watch.snapshot


def _read(watch: _Watch, workbench: Workbench, name: str) -> None:
    folder = workbench.runs / name
    launch = launch_of(workbench.runs, name)
    is_launched = launch is not None and launch.is_running
    if (folder / runs.RECIPE).is_file():
        watch.reader.read()
        listed = list_run(workbench.runs, folder)
        is_early = listed.status == "stopped" and is_launched
        status: str = "starting" if is_early else listed.status
    elif launch is not None:
        listed = Listed(name, folder, "stopped", source=launch.command[4])
        status = "starting" if is_launched else "failed"
    else:
        watch.snapshot = None
        return
    log = "" if launch is None or status == "finished" else log_end(workbench.runs, name)
    signature = (status, listed, watch.reader.last, log)
    if signature == watch.signature:
        return
    version = watch.snapshot.version + 1 if watch.snapshot else 1
    watch.signature = signature
    watch.snapshot = Snapshot(
        version,
        status,
        listed,
        () if status == "damaged" else _epochs(folder / runs.METRICS),
        tuple(watch.reader.curve),
        watch.reader.last,
        watch.reader.seconds_left if status == "training" else None,
        log,
    )


def _epochs(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    step = max(1, len(lines) // _MOST_EPOCHS)
    # Every step-th, and always the newest.
    return tuple(lines[(len(lines) - 1) % step :: step])
