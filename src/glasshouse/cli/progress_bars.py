"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import Progress, TaskID

from glasshouse.progress import live_bars
from glasshouse.wording import duration

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
    with live_bars() as bars:
        yield DataProgress(bars)
