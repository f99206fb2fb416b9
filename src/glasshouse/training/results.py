"""What training steps leave on the device until it is read."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from glasshouse.errors import DivergedError
from glasshouse.training.losses import correct_count
from glasshouse.training.process_group import ProcessGroup

# Reading waits for the device to finish, so that no step does it. Logits are kept until then.
_EVERY_SECONDS, _MOST_LOGITS = 1.0, 2**20


@dataclass(frozen=True)
class Counted:
    """What remains of the logits of a batch that was cut into shards.

    images: how many there were. correct: how many of them were predicted right, on the device.
    asked: above 0 where a process was asked to stop, on the device.
    """

    images: int
    correct: Tensor
    asked: Tensor

    def __len__(self) -> int:
        return self.images


@dataclass(frozen=True)
class StepResult:
    """Loss and logits of a step, on the device.

    names: a function that returns the images of the batch in words, for an error.
    """

    epoch: int
    step: int
    loss: Tensor
    logits: Tensor | Counted
    labels: Any
    names: Callable[[], str]


class UnreadResults:
    """The results of the steps since they were last read."""

    def __init__(self) -> None:
        self._results: list[StepResult] = []
        self._logits = 0
        self._read_at = time.monotonic()

    def add(self, result: StepResult) -> None:
        self._results.append(result)
        if isinstance(result.logits, Tensor):
            self._logits += result.logits.numel()

    def is_due(self) -> bool:
        """True once a second, and before the logits take much memory."""
        is_late = time.monotonic() - self._read_at >= _EVERY_SECONDS
        return is_late or self._logits >= _MOST_LOGITS

    def read(self) -> tuple[list[float], float]:
        """The summed loss of each step, in order, and how many images were correct; then forget.

        Raises DivergedError, naming the images of the first step whose loss is not finite.
        """
        results, self._results = self._results, []
        self._logits, self._read_at = 0, time.monotonic()
        if not results:
            return [], 0
        losses = torch.stack([each.loss for each in results]).tolist()
        for each, loss in zip(results, losses, strict=True):
            if not math.isfinite(loss):
                raise DivergedError(_diverged(each, loss))
        sums = [loss * len(each.logits) for each, loss in zip(results, losses, strict=True)]
        return sums, _correct(results)


def when_read(unread: UnreadResults, group: ProcessGroup, device: torch.device) -> Iterator[bool]:
    """For each step in turn, whether results are read after it: about once a second.

    Processes of a group read after the same steps, so that they also stop after the same one.
    """
    if group.size == 1:
        while True:
            yield unread.is_due()
    if device.type == "cpu":  # reading waits for nothing
        yield from repeat(True)
    steps = 1
    while True:
        began = time.monotonic()
        yield from repeat(False, steps - 1)
        yield True
        in_time = steps * _EVERY_SECONDS / max(time.monotonic() - began, 1e-6)
        # The first steps are not typical: twice as many at most, until they fill the time.
        steps = group.told(max(1, min(int(in_time), 2 * steps)))


def _correct(results: list[StepResult]) -> float:
    counted = [each.logits.correct for each in results if isinstance(each.logits, Counted)]
    if counted:
        return float(sum(torch.stack(counted).tolist()))
    answers = [(each.logits, each.labels) for each in results if isinstance(each.logits, Tensor)]
    kinds = {_kind(labels) for _, labels in answers}
    if len(kinds) > 1 or None in kinds:
        return sum(correct_count(logits, labels).item() for logits, labels in answers)
    logits, labels = zip(*answers, strict=True)
    return correct_count(torch.cat(logits), torch.cat(labels)).item()


def _kind(labels: Any) -> tuple[torch.dtype, torch.Size] | None:
    """What labels must have in common to be counted together; None for what is no tensor."""
    return (labels.dtype, labels.shape[1:]) if isinstance(labels, Tensor) and labels.ndim else None


def _diverged(result: StepResult, loss: float) -> str:
    return (
        f"the loss became {loss} in epoch {result.epoch}, step {result.step}. {result.names()} "
        "Lower train.lr or set train.gradient_clip=1, and check these images."
    )
