"""Torch's threads and algorithms for a computation, then those of the caller."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from glasshouse.errors import naming_full_gpu
from glasshouse.models.devices import compute_exactly
from glasshouse.settings import TrainSettings

_OF_POOLING = "max_pool2d_with_indices_backward_cuda does not have a det"
_Record = TypeVar("_Record")


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


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """A context in which a GPU computes the same bytes every time, where torch has a way to.

    What `compute_exactly` has set holds after it, too.
    """
    compute_exactly(device)
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
    # A measurement of the moment would choose the kernels, and another time choose others.
    measures, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    _ignore_warning_of_pooling()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = measures
        memory.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _ignore_warning_of_pooling() -> None:
    # Its backward pass adds in any order. Where windows do not overlap there is one summand, and
    # torch does not know which do; docs/recipes.md says what that means.
    # Each time, as catch_warnings drops filters that were added in it. One that is there already is
    # not added: Python would repeat all warnings that it shows once.
    known = (getattr(message, "pattern", message) for _, message, *_ in warnings.filters)
    if _OF_POOLING not in known:
        warnings.filterwarnings("ignore", _OF_POOLING)


@contextmanager
def as_in_training(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """A context with the threads of the settings, and on a GPU with `repeatable` algorithms.

    Raises GpuMemoryError, with what to do, where the memory of the GPU is full.
    """
    smaller = "lower train.batch_size or data.image_size, "
    with threads_of(settings), repeatable(device), naming_full_gpu(smaller):
        yield


def in_threads_of(
    settings: TrainSettings, device: torch.device, records: Iterator[_Record]
) -> Iterator[_Record]:
    """The records of a generator that runs `as_in_training`, and its consumer as before."""
    while True:
        with as_in_training(settings, device):
            try:
                record = next(records)
            except StopIteration:
                return
        yield record
