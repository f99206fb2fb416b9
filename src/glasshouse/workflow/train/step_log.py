"""Writes steps.jsonl during training, for whoever watches the run."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from glasshouse.runs.folder import STEPS
from glasshouse.runs.processes import this_process
from glasshouse.runs.steps import Mark, forget_after
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch, TrainingState

_EVERY_SECONDS = 1.0


def recorded(
    records: Iterator[Step | Epoch], state: TrainingState, epochs: int, folder: Path
) -> Iterator[Step | Epoch]:
    """Pass on the records of training and write a line to steps.jsonl, at most one per second."""
    path = folder / STEPS
    forget_after(path, state.epoch, state.step)
    process, since, is_first = this_process(), _Since.now(state), True
    with path.open("a", encoding="utf-8") as file:
        for record in records:
            if isinstance(record, Step):
                # Watchers learn from the first step that training runs, from the last that it ends.
                is_last = record.step == record.steps and record.epoch == epochs
                is_due = time.monotonic() - since.moment >= _EVERY_SECONDS
                if is_first or is_last or is_due:
                    mark = Mark(
                        time.time(), record.epoch, epochs, record.step, record.steps,
                        *since.means(state), record.lr, state.seen / state.seconds, **process,
                    )  # fmt: skip
                    file.write(json.dumps(asdict(mark)) + "\n")
                    file.flush()
                    since, is_first = _Since.now(state), False
            else:
                since = replace(
                    _Since.now(state), moment=since.moment
                )  # the sums restart with each epoch
            yield record


@dataclass(frozen=True)
class _Since:
    """The running sums at one moment, subtracted later to give means over what followed."""

    moment: float
    loss_sum: float
    correct: int
    seen: int

    @staticmethod
    def now(state: TrainingState) -> "_Since":
        return _Since(time.monotonic(), state.loss_sum, state.correct, state.seen)

    def means(self, state: TrainingState) -> tuple[float, float]:
        count = state.seen - self.seen
        return (state.loss_sum - self.loss_sum) / count, (state.correct - self.correct) / count
