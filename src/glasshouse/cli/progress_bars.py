"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from glasshouse.wording import duration

if TYPE_CHECKING:
    from glasshouse.training.loop import Step
    from glasshouse.training.state import Epoch

_QUIET_SECONDS = 5.0


def say(text: str) -> None:
    """Print a message to standard error, which leaves standard output to the results."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class DataProgress:
    """Called with (what, done, total) while images are read."""

    bars: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)
    begun: dict[str, tuple[float, int]] = field(default_factory=dict)
    last_line: float = field(default_factory=time.monotonic)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Advance the bar, or print a line every few seconds where there is no terminal."""
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total, detail="")
            self.begun[what] = time.monotonic(), done
        left = self._left(what, done, total)
        detail = f"{done:,}/{total:,}{left}"
        self.bars.update(self.tasks[what], completed=done, total=total, detail=detail)
        if not self.bars.console.is_terminal and time.monotonic() - self.last_line > _QUIET_SECONDS:
            self.last_line = time.monotonic()
            say(f"{what}: {done:,} of {total:,}{left}")

    def _left(self, what: str, done: int, total: int) -> str:
        """The time left at the current pace, not counting what was already done at the start."""
        started, first = self.begun[what]
        seconds = time.monotonic() - started
        if done <= first or done >= total or seconds < 1:
            return ""
        return f", {duration(seconds / (done - first) * (total - done))} left"


@contextmanager
def data_progress() -> Iterator[DataProgress]:
    """Bars for reading data, cleared when it is done."""
    with _bars() as bars:
        yield DataProgress(bars)


def show_training(records: "Iterable[Step | Epoch]", epochs: int) -> None:
    """Consume the records of a training run, showing images/s, time left and a line per epoch."""
    from glasshouse.training.state import Epoch

    pace = _Pace(epochs)
    with _bars() as bars:
        task = bars.add_task("training", total=1.0, detail="")
        for record in records:
            if isinstance(record, Epoch):
                bars.console.print(epoch_line(record, epochs), highlight=False, soft_wrap=True)
            else:
                pace.count(record)
                bars.update(task, completed=pace.done(record), detail=pace.text(record))
                pace.say_now_and_then(bars, record)


def epoch_line(epoch: "Epoch", epochs: int) -> str:
    """One epoch in one line."""
    return (
        f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  "
        f"train loss {epoch.train_loss:.3f} acc {epoch.train_accuracy:6.2%}  "
        f"val loss {epoch.validation_loss:.3f} acc {epoch.validation_accuracy:6.2%}  "
        f"lr {epoch.lr:.2g}  {epoch.seconds:.1f} s  {epoch.images_per_second:,.0f} images/s"
    )


class _Pace:
    """The pace of training, measured from the first step seen."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.started: float | None = None
        self.first = 0.0
        self.steps = 0
        self.batch = 0.0
        self.last_line = time.monotonic()

    def done(self, step: "Step") -> float:
        return (step.epoch - 1 + step.step / step.steps) / self.epochs

    def count(self, step: "Step") -> None:
        if self.started is None:
            self.started, self.first = time.monotonic(), self.done(step)
        self.steps += 1
        self.batch = step.images / step.step

    def text(self, step: "Step") -> str:
        seconds = time.monotonic() - (self.started or 0.0)
        gained = self.done(step) - self.first
        if gained <= 0 or seconds <= 0:
            return f"epoch {step.epoch}/{self.epochs}"
        left = seconds / gained * (1 - self.done(step))
        speed = self.steps * self.batch / seconds
        return f"epoch {step.epoch}/{self.epochs}  {speed:,.0f} images/s  {duration(left)} left"

    def say_now_and_then(self, bars: Progress, step: "Step") -> None:
        if bars.console.is_terminal or time.monotonic() - self.last_line < 2 * _QUIET_SECONDS:
            return
        self.last_line = time.monotonic()
        say(f"  {self.text(step)}")


@contextmanager
def _bars() -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}")
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        yield bars
