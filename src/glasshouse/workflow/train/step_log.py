"""Writes steps.jsonl during training, for whoever watches the run."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from glasshouse.errors import GlasshouseWarning, StorageError
from glasshouse.runs.folder import RECIPE, STEPS
from glasshouse.runs.processes import this_process
from glasshouse.runs.steps import Mark, forget_after
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch, TrainingState

_EVERY_SECONDS = 1.0


def recorded(
    records: Iterator[Step | Epoch], state: TrainingState, epochs: int, folder: Path
) -> Iterator[Step | Epoch]:
    """Pass on the records of training and write a line to steps.jsonl, at most one per second."""
    log = _StepLog(folder / STEPS)
    log.attempt(lambda: forget_after(log.path, state.epoch, state.step))
    process, since, is_first = this_process(), _Since.now(state), True
    for record in records:
        if isinstance(record, Step):
            # Watchers learn from the first step that training runs, from the last that it ends.
            is_last = record.step == record.steps and record.epoch == epochs
            is_due = time.monotonic() - since.moment >= _EVERY_SECONDS
            if is_first or is_last or is_due:
                _require_folder(folder)
                state.read_results()
                mark = Mark(
                    time.time(), record.epoch, epochs, record.step, record.steps,
                    *since.means(state), record.lr, state.seen / state.seconds, **process,
                )  # fmt: skip
                log.append(mark)
                since, is_first = _Since.now(state), False
        else:
            # Before anything is written after an epoch, which would create the folder again.
            _require_folder(folder)
            # The sums restart with each epoch.
            since = replace(_Since.now(state), moment=since.moment)
        yield record


def _require_folder(folder: Path) -> None:
    # Removing a folder that is written to leaves it with what was written meanwhile.
    if not (folder / RECIPE).is_file():
        raise StorageError(f"{folder} was deleted or moved while it was training, which stops here")


@dataclass
class _StepLog:
    """Appends to the file until that fails once: it holds nothing that training needs."""

    path: Path
    is_usable: bool = True

    def append(self, mark: Mark) -> None:
        def write() -> None:
            # Opened each time: no handle is left open when nobody finishes the loop.
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(mark)) + "\n")

        if self.is_usable:
            self.attempt(write)

    def attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, StorageError) as error:
            self.is_usable = False
            warnings.warn(
                f"the progress of the run can no longer be written ({error}); training continues",
                GlasshouseWarning,
                stacklevel=3,
            )


@dataclass(frozen=True)
class _Since:
    """The running sums at one moment, subtracted later to give means over what followed."""

    moment: float
    loss_sum: float
    correct: float
    seen: int

    @staticmethod
    def now(state: TrainingState) -> "_Since":
        return _Since(time.monotonic(), state.loss_sum, state.correct, state.seen)

    def means(self, state: TrainingState) -> tuple[float, float]:
        count = state.seen - self.seen
        return (state.loss_sum - self.loss_sum) / count, (state.correct - self.correct) / count
