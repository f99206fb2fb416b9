"""Torch's random state and threads for the time of a computation, then those of the caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from glasshouse.settings import TrainSettings

_Record = TypeVar("_Record")


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A context with torch seeded; the caller's random state returns afterwards."""
    # Not torch.random.fork_rng, which takes a hundred times as long at every step.
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def threads_of(settings: TrainSettings) -> Iterator[None]:
    """A context with the threads of the settings: one where batches are cut into shards."""
    # Kernels sum in another order with more threads, and so would processes that share the cores.
    before = torch.get_num_threads()
    wanted = 1 if settings.shards > 1 else settings.threads
    if wanted in ("auto", before):
        yield
        return
    torch.set_num_threads(int(wanted))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads_of(settings: TrainSettings, records: Iterator[_Record]) -> Iterator[_Record]:
    """The records of a generator that runs with these threads, and its consumer with its own."""
    while True:
        with threads_of(settings):
            try:
                record = next(records)
            except StopIteration:
                return
        yield record
