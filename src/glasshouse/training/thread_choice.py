"""How many threads to train with: fewer where other programs use the processor."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from glasshouse.data.batches import Batch, batches, prepare_images
from glasshouse.models.devices import choose_device
from glasshouse.models.threads import Measure, fastest_threads
from glasshouse.settings import TrainSettings
from glasshouse.training.loop import TrainingSetup, update
from glasshouse.training.repeatable import threads_of
from glasshouse.training.state import TrainingState

# Seconds of a measurement, which is at least one step. Steps longer than the second need no step
# before them, in which kernels are prepared.
_BURST, _LONG_STEP = 0.04, 0.5
# Rounds of measurement. Next to two programs that use a core each, more threads were faster in the
# first three of one in four, and four times as slow after that.
_FEWEST = 6
_LR = 1e-3


@dataclass(frozen=True)
class ThreadChoice:
    """How many threads train, and the images per second of each number that was measured."""

    threads: int
    rates: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_reduced(self) -> bool:
        """Whether fewer threads were chosen than the processor has."""
        return any(number > self.threads for number in self.rates)


def choose_threads(
    begin: Callable[[TrainSettings], TrainingState], setup: TrainingSetup
) -> ThreadChoice:
    """The number of threads for a training, measured for half a second, longer if busy.

    begin: makes a new state, which the measurement uses up. A number in ``train.threads`` is taken
    as it is, and so are torch's threads where there is nothing to choose: on another device than
    the CPU, with shards, which have a thread each, and with batches, loss or optimizer of the
    user's own, which a measurement might change.
    """
    with threads_of(setup.settings):
        most, device = torch.get_num_threads(), choose_device(setup.settings.device)
        own = (setup.batches, setup.loss, setup.optimizer)
        is_given = setup.settings.threads != "auto" or any(part is not None for part in own)
        if most == 1 or is_given or device.type != "cpu":
            return ThreadChoice(most)
        # Whatever the rate, the weights are thrown away.
        setup = replace(setup, settings=setup.settings.model_copy(update={"lr": _LR}))
        try:
            measure = _measure_of(begin(setup.settings), setup)
            chosen, seconds = fastest_threads(most, measure, fewest=_FEWEST)
            size = setup.settings.batch_size
            return ThreadChoice(chosen, {number: size / each for number, each in seconds.items()})
        finally:
            torch.set_num_threads(most)


def with_threads(settings: TrainSettings, choice: ThreadChoice) -> TrainSettings:
    """The settings with the chosen number of threads."""
    return settings.model_copy(update={"threads": choice.threads})


def describe_threads(choice: ThreadChoice) -> str:
    """Why a training uses fewer threads than it could, in one line."""
    measured = ", ".join(
        f"{rate:,.0f} images per second with {number}"
        for number, rate in sorted(choice.rates.items())
    )
    return f"threads: {choice.threads}, as more are slower while the processor is busy: {measured}"


def _measure_of(state: TrainingState, setup: TrainingSetup) -> Measure:
    """A function that measures the seconds of a step with a number of threads."""
    batch = _first_batch(setup)
    prepared: set[int] = set()

    def step() -> float:
        started = time.perf_counter()
        update(state, batch, setup, _LR)
        return time.perf_counter() - started

    def measure(threads: int) -> float:
        torch.set_num_threads(threads)
        first = step()
        if threads not in prepared and first < _LONG_STEP:
            prepared.add(threads)
            first = step()
        seconds = [first]
        while sum(seconds) < _BURST:
            seconds.append(step())
        return statistics.mean(seconds)

    return measure


def _first_batch(setup: TrainingSetup) -> Batch:
    settings = setup.settings
    data = prepare_images(setup.train, torch.device("cpu"), settings.sampling)
    made = batches(data, setup.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=0)
    return next(made)
