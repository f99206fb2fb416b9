"""Progress of a training run: a table in a notebook, a bar on a terminal, plain lines elsewhere."""

import html
import sys
import time
from collections.abc import Iterable

from rich.progress import Progress as Bars

from glasshouse.notebook import display_in_notebook, in_notebook
from glasshouse.progress import live_bars
from glasshouse.training.loop import Step
from glasshouse.training.state import Epoch
from glasshouse.wording import duration, epochs_so_far, has_no_end, percentage

_LINE_SECONDS, _REDRAW_SECONDS = 10.0, 0.25
# A longer table would push the rest of the notebook off the screen.
_ROWS = 20
_COLUMNS = (
    "epoch", "training loss", "training accuracy", "validation loss", "validation accuracy",
    "learning rate", "seconds",
)  # fmt: skip


def show_training(records: Iterable[Step | Epoch], epochs: int) -> None:
    """Consume the records of a training run, showing images/s, time left and a line per epoch.

    In a notebook one table, which grows; otherwise on standard error.
    """
    if in_notebook():
        _show_table(records, epochs)
        return
    pace = _Pace(epochs)
    with live_bars() as bars:
        task = bars.add_task("training", total=1.0, detail="")
        for record in records:
            if isinstance(record, Epoch):
                bars.console.print(epoch_line(record, epochs), highlight=False, soft_wrap=True)
            else:
                pace.begin(record)
                bars.update(task, completed=pace.done(record), detail=pace.text(record))
                pace.say_now_and_then(bars, record)


def is_watched() -> bool:
    """Whether somebody may be looking: in a notebook, or where standard error is a terminal."""
    return in_notebook() or sys.stderr.isatty()


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One epoch in one line."""
    so_far = epochs_so_far(epoch.epoch, epochs)
    width = 0 if has_no_end(epochs) else len(epochs_so_far(epochs, epochs))
    return (
        f"epoch {so_far:>{width}}  "
        f"train loss {epoch.train_loss:.3f} acc {percentage(epoch.train_accuracy, 2):>7}  "
        f"val loss {epoch.validation_loss:.3f} acc {percentage(epoch.validation_accuracy, 2):>7}  "
        f"lr {epoch.lr:.2g}  {epoch.seconds:.1f} s  {epoch.images_per_second:,.0f} images/s"
    )


class _Pace:
    """The pace of training, measured from the first step seen."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.started: float | None = None
        self.first = 0.0
        self.last_line = time.monotonic()

    def done(self, step: Step) -> float:
        return (step.epoch - 1 + step.step / step.steps) / self.epochs

    def begin(self, step: Step) -> None:
        if self.started is None:
            self.started, self.first = time.monotonic(), self.done(step)

    def text(self, step: Step) -> str:
        seconds = time.monotonic() - (self.started or 0.0)
        gained = self.done(step) - self.first
        so_far = f"epoch {epochs_so_far(step.epoch, self.epochs)}"
        if gained <= 0 or seconds <= 0:
            return so_far
        left = seconds / gained * (1 - self.done(step))
        # From how far it has come: not every step may be seen.
        speed = gained * self.epochs * step.steps * step.images / step.step / seconds
        ending = "" if has_no_end(self.epochs) else f"  {duration(left)} left"
        return f"{so_far}  {speed:,.0f} images/s{ending}"

    def say_now_and_then(self, bars: Bars, step: Step) -> None:
        if bars.console.is_terminal or time.monotonic() - self.last_line < _LINE_SECONDS:
            return
        self.last_line = time.monotonic()
        sys.stderr.write(f"  {self.text(step)}\n")


def _show_table(records: Iterable[Step | Epoch], epochs: int) -> None:
    pace, seen = _Pace(epochs), list[Epoch]()
    redraw = display_in_notebook(_table(seen, ""))
    drawn = time.monotonic()
    for record in records:
        if isinstance(record, Epoch):
            seen.append(record)
            redraw(_table(seen, ""))
            continue
        pace.begin(record)
        # Each redrawing is a message to the browser; one per step would slow small networks down.
        if time.monotonic() - drawn > _REDRAW_SECONDS:
            drawn = time.monotonic()
            redraw(_table(seen, _bar(pace.done(record), pace.text(record))))


def _bar(done: float, text: str) -> str:
    # HTML has no double spaces, which separate the same words on a terminal.
    said = html.escape(text.replace("  ", " · "))
    return f'<progress value="{done:.4f}" max="1"></progress> {said}'


def _table(epochs: list[Epoch], below: str) -> str:
    rows = "".join(
        f"<tr><td>{e.epoch}</td>"
        f"<td>{e.train_loss:.3f}</td><td>{percentage(e.train_accuracy, 2)}</td>"
        f"<td>{e.validation_loss:.3f}</td><td>{percentage(e.validation_accuracy, 2)}</td>"
        f"<td>{e.lr:.2g}</td><td>{e.seconds:.1f}</td></tr>"
        for e in epochs[-_ROWS:]
    )
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    shown = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    return shown + (f"<div>{below}</div>" if below else "")
