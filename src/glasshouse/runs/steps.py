"""How far a run has got, step by step: a small file that others read while it grows.

Reading it does not wait for torch; `workflow/train/step_log.py` writes it.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from glasshouse.runs.folder import STEPS
from glasshouse.runs.processes import is_alive
from glasshouse.storage import write_text
from glasshouse.wording import has_no_end

_TAIL = 4096


@dataclass(frozen=True)
class Mark:
    """One line: the step within the epoch, both counted from 1, and the metrics since the last.

    loss and accuracy: means over the training images since the previous line, or since the epoch
    began. time: seconds since 1970. pid, pid_started: identify the training process.
    """

    time: float
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    images_per_second: float
    pid: int
    pid_started: float | None

    @property
    def position(self) -> float:
        """Epochs completed, as a fraction."""
        return self.epoch - 1 + self.step / self.steps

    @property
    def is_last(self) -> bool:
        """True after the last step, when only evaluation is left."""
        return self.epoch >= self.epochs and self.step >= self.steps


def last_mark(folder: Path) -> Mark | None:
    """The latest line, read from the end of the file; None where there is none."""
    try:
        with (folder / STEPS).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    return next((mark for line in reversed(lines) if (mark := _parse(line))), None)


def is_running(mark: Mark | None) -> bool:
    """True while the process that wrote the line is running."""
    return mark is not None and is_alive(mark.pid, mark.pid_started)


@dataclass
class StepReader:
    """Follows a growing file, reading each line once, and keeps a curve of bounded length.

    curve: rows of position in epochs, loss, accuracy and learning rate; on reaching ``limit`` rows
    (an even number), neighbours are averaged in pairs. first, last: the ends of the latest
    uninterrupted stretch.
    """

    path: Path
    limit: int = 240
    curve: list[tuple[float, float, float, float]] = field(default_factory=list)
    first: Mark | None = None
    last: Mark | None = None
    _offset: int = 0
    _inode: int = 0
    _pooled: int = 1
    _waiting: list[tuple[float, float, float, float]] = field(default_factory=list)

    def read(self) -> None:
        """Read what was written since the last call."""
        try:
            status = self.path.stat()
        except OSError:
            return
        if status.st_ino != self._inode or status.st_size < self._offset:
            # A resumed run has rewritten the file.
            self._forget(status.st_ino)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            mark = _parse(line)
            if mark is not None:
                self._take(mark)

    @property
    def seconds_left(self) -> float | None:
        """Expected time for the rest of training, at the speed of this stretch; None: unknown."""
        if self.first is None or self.last is None or has_no_end(self.last.epochs):
            return None
        gained = self.last.position - self.first.position
        if gained <= 0:
            return None
        pace = (self.last.time - self.first.time) / gained
        return pace * (self.last.epochs - self.last.position)

    def _forget(self, inode: int) -> None:
        self.curve, self._waiting = [], []
        self.first = self.last = None
        self._offset, self._inode, self._pooled = 0, inode, 1

    def _take(self, mark: Mark) -> None:
        if self.first is None or self.first.pid != mark.pid:
            self.first = mark
        self.last = mark
        self._waiting.append((mark.position, mark.loss, mark.accuracy, mark.lr))
        if len(self._waiting) < self._pooled:
            return
        self.curve.append(_mean(self._waiting))
        self._waiting.clear()
        if len(self.curve) >= self.limit:
            self.curve = [_mean(self.curve[i : i + 2]) for i in range(0, len(self.curve), 2)]
            self._pooled *= 2


def forget_after(path: Path, epoch: int, step: int) -> None:
    """Drop the lines after the step that a resumed run starts from: they are written again."""
    if not path.is_file():
        return
    marks = [_parse(line) for line in path.read_text("utf-8", "replace").splitlines()]
    kept = [m for m in marks if m is not None and (m.epoch - 1, m.step) <= (epoch, step)]
    write_text(path, "".join(json.dumps(asdict(mark)) + "\n" for mark in kept))


_NAMES = frozenset(one.name for one in fields(Mark))


def _parse(line: str) -> Mark | None:
    try:
        values: dict[str, Any] = json.loads(line)
        mark = Mark(**{name: values[name] for name in _NAMES})
        numbers = [value for name, value in vars(mark).items() if name != "pid_started" or value]
        usable = all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
        return mark if usable and mark.steps > 0 and mark.pid > 0 else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # what was read may begin or end in the middle of a line


def _mean(rows: list[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    columns = zip(*rows, strict=True)
    position, loss, accuracy, lr = (sum(column) / len(rows) for column in columns)
    return position, loss, accuracy, lr
