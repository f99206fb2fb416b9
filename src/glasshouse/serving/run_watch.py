"""The state of a run as its page shows it, read once for all viewers."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glasshouse.runs import folder as runs
from glasshouse.runs.background import launch_of, log_end, status_without_folder
from glasshouse.runs.failure import has_diverged
from glasshouse.runs.listing import Listed, RunListing
from glasshouse.runs.records import read_epoch_lines
from glasshouse.runs.steps import Mark, StepReader
from glasshouse.serving.workbench import Workbench

# All pages refresh at the same moment, every two seconds: the first of them reads for all.
_FRESH_SECONDS = 1.5
_MOST_EPOCHS = 400
_DELETED = "The folder of this run was deleted during training; its process is still running."

Curve = tuple[tuple[float, float, float, float], ...]


# Compared and hashed by identity, because there is one object per version: as a key of the caches
# in live.py and curves.py it must not be walked through.
@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one moment; version increases with every change.

    status: as in the list of runs; without a folder, that of its launch. epochs:
    the lines of metrics.jsonl, evenly thinned to a few hundred. curve: rows of position in epochs,
    loss, accuracy and learning rate. log: the last output of a training run in the background.
    """

    version: int
    status: str
    listed: Listed
    epochs: tuple[dict[str, Any], ...] = ()
    curve: Curve = ()
    mark: Mark | None = None
    seconds_left: float | None = None
    log: str = ""
    has_report: bool = False

    @property
    def stage(self) -> tuple[Any, ...]:
        """What decides which panels the page has; everything else is texts and points."""
        parts = bool(self.listed.recipe), self.has_points, self.has_report
        return self.status, *parts

    @property
    def is_at_work(self) -> bool:
        """True while the run may still change by itself."""
        return self.status in ("starting", "training", "evaluating", "deleted")

    @property
    def can_resume(self) -> bool:
        """True when nothing is running and there is something left to do.

        A run that diverged would do so again, at the same step, and a trial is its search's to
        resume.
        """
        is_own = not self.has_diverged and not self.listed.in_search
        return is_own and self.status in ("stopped", "failed")

    @property
    def has_diverged(self) -> bool:
        """True when the loss became infinite or no number."""
        return has_diverged(self.listed.problem)

    @property
    def has_begun(self) -> bool:
        """True when there is a run folder."""
        return bool(self.listed.recipe)

    @property
    def has_points(self) -> bool:
        """True when there is something to draw: one step alone makes no line."""
        return bool(self.epochs) or len(self.curve) > 1

    @property
    def has_epochs(self) -> bool:
        """False for a head that is fitted to features, without epochs."""
        return bool(self.listed.of) or not self.has_begun

    @property
    def is_over(self) -> bool:
        """True when nothing will change any more."""
        return self.status == "tried" or (self.status == "finished" and self.has_report)

    @property
    def done(self) -> float:
        """The finished share of training, 0 to 1."""
        if self.status in ("finished", "evaluating"):
            return 1.0
        if self.mark is not None:
            return self.mark.position / self.mark.epochs
        return self.listed.epochs / self.listed.of if self.listed.of else 0.0


@dataclass
class _Watch:
    """One run and what was last read of it."""

    listing: RunListing
    reader: StepReader
    read_at: float = -1.0
    signature: tuple[Any, ...] = ()
    snapshot: Snapshot | None = field(default=None)


_watches: dict[tuple[Path, str], _Watch] = {}


def snapshot_of(workbench: Workbench, name: str) -> Snapshot | None:
    """The run as it is now, at most two seconds old; None when there is no such run."""
    folder = workbench.runs / name
    key = (workbench.runs, name)
    watch = _watches.setdefault(
        key, _Watch(RunListing(workbench.runs), StepReader(folder / runs.STEPS))
    )
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
        listed = watch.listing.read_one(folder)
        is_early = listed.status in ("stopped", "failed") and is_launched
        status: str = "starting" if is_early else listed.status
    elif launch is not None and (found := status_without_folder(workbench.runs, launch)):
        problem = _DELETED if found == "deleted" else ""
        listed = Listed(name, folder, "stopped", source=launch.source, problem=problem)
        status = found
    else:
        watch.snapshot = None
        return
    log = "" if launch is None or status == "finished" else log_end(workbench.runs, name)
    has_report = (folder / runs.REPORT).is_file()
    signature = (status, listed, watch.reader.last, log, has_report)
    if signature == watch.signature:
        return
    watch.signature = signature
    watch.snapshot = Snapshot(
        1 if watch.snapshot is None else watch.snapshot.version + 1,
        status,
        listed,
        _epochs(folder / runs.METRICS, listed, watch.snapshot),
        tuple(watch.reader.curve),
        watch.reader.last,
        watch.reader.seconds_left if status == "training" else None,
        log,
        has_report,
    )


def _epochs(path: Path, listed: Listed, before: Snapshot | None) -> tuple[dict[str, Any], ...]:
    if before is not None and before.listed.validation == listed.validation:
        return before.epochs
    if listed.status == "damaged" or not path.is_file():
        return ()
    lines = list(read_epoch_lines(path))
    step = max(1, len(lines) // _MOST_EPOCHS)
    # Thinned from the first on, so that points that are drawn stay; the newest is always shown.
    return tuple(lines[:-1][::step] + lines[-1:])
