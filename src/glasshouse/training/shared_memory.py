"""Memory in which the processes of one machine sum tensors.

gloo sends a tensor through the loopback, which takes longer than to add it. Here each process
writes it where all others read it, sums one part of all tensors, and reads the other parts.
"""

import mmap
import os
import platform
import secrets
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from glasshouse.training.tree_sum import tree_sum

# A process has two places of at most this size. Larger gradients belong to longer steps, compared
# with which gloo's exchange is short.
_MOST_BYTES = 64 * 2**20
# A token by which memory is known, a counter of what its process has done, and the places.
_TOKEN, _COUNTER, _START = slice(0, 64), slice(64, 72), 128
# Processes that write into the same cache line wait for each other.
_LINE = 64
_SPIN_SECONDS, _POLL_MILLISECONDS = 0.02, 1
# On other processors a counter may be seen before what was written before it.
_ORDERED = ("x86_64",)


@dataclass(frozen=True)
class Offer:
    """Where the memory of a process is: an open file of it, and the bytes that it begins with."""

    process: int
    file: int
    token: bytes


@dataclass(frozen=True)
class _Memory:
    """Mapped memory; ended: becomes readable once the process that made it has ended."""

    mapped: mmap.mmap
    counter: memoryview
    ended: int


@dataclass
class SharedMemory:
    """What the processes of a group that are on one machine write for each other, and read.

    gather: what all processes of the group say, in order.
    """

    rank: int
    gather: Callable[[Any], list[Any]]
    # Of the processes that share memory, in order, this one among them; or of none.
    _block: list[_Memory] = field(default_factory=list)
    _capacity: int = 0
    _sums: int = 0

    def begin(self, own: Tensor) -> int:
        """Make room for a tensor; every process of the group begins with one of the same size.

        Returns how many processes that follow each other share memory, 1 without any; the first of
        them is a multiple of this number, which all processes are told alike.
        """
        self._sums += 1
        if self._capacity < own.nbytes <= _MOST_BYTES and own.device.type == "cpu":
            self._grow(_whole_lines(own.nbytes))
        has_place = own.nbytes <= self._capacity and own.device.type == "cpu"
        return len(self._block) if self._block and has_place else 1

    def place(self, count: int) -> Tensor | None:
        """Where this many float32 numbers of the next sum can be written, so that none is copied.

        None where no other process could read them, or no sum has been as large.
        """
        if not self._block or 4 * count > self._capacity:
            return None
        # What was there is of the last sum but one or older, which nobody reads any more.
        start = self._start_of(self._sums + 1)
        return _tensor_at(self._own, start, torch.float32, count)

    def sum_part(self, own: Tensor) -> Tensor:
        """This process's part of the sum over those that share memory, after `begin`.

        The caller may add the parts of other machines to it. It has no numbers where there are
        fewer parts than processes. Raises EOFError where one of the processes has ended.
        """
        places = self._places(own)
        place = places[self._number]
        if place.data_ptr() != own.data_ptr():
            place.copy_(own.view(-1))
        self._meet(2 * self._sums - 1)
        each = _whole_lines(-(-own.nbytes // len(places))) // own.itemsize
        part = slice(self._number * each, (self._number + 1) * each)
        return tree_sum(place[part] for place in places)

    def gather_parts(self, own: Tensor) -> Tensor:
        """The whole sum, in the shape of a tensor, after `sum_part`.

        All processes have the same memory, which keeps its values until they begin the next sum.
        Raises EOFError where a process has ended.
        """
        self._meet(2 * self._sums)
        return self._places(own)[0].view(own.shape)

    @property
    def _number(self) -> int:
        return self.rank % len(self._block)

    @property
    def _own(self) -> _Memory:
        return self._block[self._number]

    def _places(self, like: Tensor) -> list[Tensor]:
        start = self._start_of(self._sums)
        return [_tensor_at(each, start, like.dtype, like.numel()) for each in self._block]

    def _start_of(self, number: int) -> int:
        """Where the tensor of the sum with a number is."""
        # In every other sum it is another place, so that nothing is overwritten that is being read:
        # all others that have begun a sum have done with the one before.
        return _START + number % 2 * self._capacity

    def _meet(self, count: int) -> None:
        """Wait until all processes have come as far as this one."""
        self._own.counter[0] = count
        for memory in self._block:
            _wait(memory, count)

    def _grow(self, capacity: int) -> None:
        """Share memory of another size with the others on this machine."""
        with _made(_START + 2 * capacity) as offer:
            found = dict(_opened(self.gather(offer)))
            # Of a block, either all use their memory or none; and all have opened it.
            near = _block_size(self.gather(frozenset(found)))
        kept = [found.pop(rank) for rank in _block_of(self.rank, near)] if near > 1 else []
        for memory in (*self._block, *found.values()):
            os.close(memory.ended)
        self._block, self._capacity = kept, capacity


def _block_size(reached: Sequence[AbstractSet[int]]) -> int:
    """The largest power of two by which the processes are cut into blocks that share memory.

    reached: whose memory each process has opened, its own among them.
    """
    near = 1
    while 2 * near <= len(reached) and all(
        found >= set(_block_of(rank, 2 * near)) for rank, found in enumerate(reached)
    ):
        near *= 2
    return near


def _block_of(rank: int, size: int) -> range:
    """The numbers of the processes of a block."""
    first = rank // size * size
    return range(first, first + size)


def _whole_lines(count: int) -> int:
    return -(-count // _LINE) * _LINE


def _tensor_at(memory: _Memory, start: int, kind: torch.dtype, count: int) -> Tensor:
    return torch.frombuffer(memory.mapped, dtype=kind, count=count, offset=start)


def _wait(memory: _Memory, count: int) -> None:
    """Return once a process has come as far; raises EOFError where it has ended."""
    spun = time.monotonic() + _SPIN_SECONDS
    while memory.counter[0] < count:
        # A process that computes on this core goes first.
        os.sched_yield()
        if time.monotonic() > spun and _has_ended(memory, _POLL_MILLISECONDS):
            # It may have come so far and ended since.
            if memory.counter[0] < count:
                raise EOFError("a process of the group has ended")
            return


def _has_ended(memory: _Memory, milliseconds: int) -> bool:
    waiting = select.poll()
    waiting.register(memory.ended, select.POLLIN)
    return bool(waiting.poll(milliseconds))


@contextmanager
def _made(size: int) -> Iterator[Offer | None]:
    """Memory that others can open for as long as the context lasts; None where there is none."""
    if sys.platform != "linux" or platform.machine() not in _ORDERED:
        yield None
        return
    file = os.memfd_create("glasshouse")
    try:
        offer = Offer(os.getpid(), file, secrets.token_bytes(_TOKEN.stop))
        yield offer if _is_allocated(offer, size) else None
    finally:
        os.close(file)


def _is_allocated(offer: Offer, size: int) -> bool:
    with suppress(OSError):
        # All of it now: a page that is missing later would end the process.
        os.posix_fallocate(offer.file, 0, size)
        os.pwrite(offer.file, offer.token, _TOKEN.start)
        return True
    return False


def _opened(offers: Sequence[Offer | None]) -> Iterator[tuple[int, _Memory]]:
    """The memory of those processes that are on this machine, by their number."""
    for rank, offer in enumerate(offers):
        if offer is None:
            continue
        # Where it is on another machine or in another container, there is no such process, or it
        # is another one.
        with suppress(OSError, ValueError):
            file = os.open(f"/proc/{offer.process}/fd/{offer.file}", os.O_RDWR)
            try:
                mapped = mmap.mmap(file, 0)
            finally:
                os.close(file)
            if mapped[_TOKEN] == offer.token:
                counter = memoryview(mapped)[_COUNTER].cast("q")
                yield rank, _Memory(mapped, counter, os.pidfd_open(offer.process))
