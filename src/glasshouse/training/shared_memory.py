"""Memory through which the processes of one machine exchange tensors.

gloo sends a tensor through the loopback, which takes longer than to add it. Here each process
writes it where its partner reads it.
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

# A process has two places of this size for each partner. Larger gradients belong to longer steps,
# compared with which gloo's exchange is short.
_MOST_BYTES = 64 * 2**20
# A token by which memory is known, a counter for each partner, and the places.
_TOKEN, _COUNTERS, _START = slice(0, 64), slice(64, 576), 1024
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
    counters: memoryview
    ended: int


@dataclass
class SharedMemory:
    """What one process of a group writes for its partners, and what it reads of theirs.

    Partners are those whose number differs in one bit. gather: what all processes say, in order.
    """

    rank: int
    size: int
    gather: Callable[[Any], list[Any]]
    _own: _Memory | None = None
    _theirs: dict[int, _Memory] = field(default_factory=dict)
    _capacity: int = 0
    _sums: int = 0
    _near: int = 1

    def begin(self, own: Tensor) -> int:
        """Make room for a tensor; every process of the group begins with one of the same size.

        Returns how many processes that follow each other share memory, 1 without any; the first of
        them is a multiple of this number, which all processes are told alike.
        """
        self._sums += 1
        if self._capacity < own.nbytes <= _MOST_BYTES and own.device.type == "cpu":
            self._grow(-(-own.nbytes // 64) * 64)
        return self._near if self._has_place_for(own) else 1

    def _has_place_for(self, own: Tensor) -> bool:
        return own.nbytes <= self._capacity and own.device.type == "cpu"

    def place(self, count: int) -> Tensor | None:
        """Where this many float32 numbers of the next sum can be written, so that none is copied.

        They must not change until that sum is there. None where no partner could read them.
        """
        fits = 4 * count <= self._capacity
        if self._own is None or self._near == 1 or not fits:
            return None
        # What was there is of the last sum but one, which no partner reads any more.
        start = self._start_of(0, self._sums + 1)
        return torch.frombuffer(self._own.mapped, dtype=torch.float32, count=count, offset=start)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is in this memory, where partners may be reading it."""
        if self._own is None or tensor.device.type != "cpu":
            return False
        begin = torch.frombuffer(self._own.mapped, dtype=torch.uint8).data_ptr()
        return begin <= tensor.data_ptr() < begin + len(self._own.mapped)

    def _start_of(self, level: int, number: int) -> int:
        """Where the tensor for the partner of a level is, of the sum with a number."""
        # In every other sum it is another place, so that nothing is overwritten that is being read:
        # a partner that has begun a sum has done with the one before.
        return _START + (2 * level + number % 2) * self._capacity

    def exchanged(self, own: Tensor, partner: int) -> Tensor | None:
        """A partner's tensor, which receives ours; it keeps its values until the next exchange.

        None where the two share no memory, or the tensor has no place in it. Raises EOFError where
        the partner has ended.
        """
        theirs = self._theirs.get(partner)
        if self._own is None or theirs is None or not self._has_place_for(own):
            return None
        level = (self.rank ^ partner).bit_length() - 1
        start = self._start_of(level, self._sums)
        there = _tensor_at(self._own, start, own)
        if there.data_ptr() != own.data_ptr():
            there.copy_(own)
        self._own.counters[level] = self._sums
        _wait(theirs, level, self._sums)
        return _tensor_at(theirs, start, own)

    def _grow(self, capacity: int) -> None:
        """Share memory of another size with every partner that is on this machine."""
        levels = (self.size - 1).bit_length()
        with _made(_START + 2 * levels * capacity) as (offer, own):
            offers = self.gather(offer)
            found = dict(_opened(offers, [self.rank ^ 1 << level for level in range(levels)]))
            # Of two partners, either both use their memory or neither; and all have opened it.
            reached = self.gather(frozenset(found))
        for memory in self._theirs.values():
            os.close(memory.ended)
        self._own, self._capacity = own, capacity
        self._theirs = {p: memory for p, memory in found.items() if self.rank in reached[p]}
        self._near = _block(reached)


def _block(reached: Sequence[AbstractSet[int]]) -> int:
    """The largest power of two by which the processes are cut into blocks that share memory.

    reached: whose memory each process has opened, of its partners.
    """
    size, near = len(reached), 1
    while near < size and all(
        rank ^ near in reached[rank] and rank in reached[rank ^ near] for rank in range(size)
    ):
        near *= 2
    return near


def _tensor_at(memory: _Memory, start: int, like: Tensor) -> Tensor:
    found = torch.frombuffer(memory.mapped, dtype=like.dtype, count=like.numel(), offset=start)
    return found.view(like.shape)


def _wait(theirs: _Memory, level: int, number: int) -> None:
    """Return once a partner has written its tensor of a sum; raises EOFError where it has ended."""
    spun = time.monotonic() + _SPIN_SECONDS
    while theirs.counters[level] < number:
        # A partner that computes on this core goes first.
        os.sched_yield()
        if time.monotonic() > spun and _has_ended(theirs, _POLL_MILLISECONDS):
            # It may have written and ended since.
            if theirs.counters[level] < number:
                raise EOFError("a process of the group has ended")
            return


def _has_ended(memory: _Memory, milliseconds: int) -> bool:
    waiting = select.poll()
    waiting.register(memory.ended, select.POLLIN)
    return bool(waiting.poll(milliseconds))


@contextmanager
def _made(size: int) -> Iterator[tuple[Offer | None, _Memory | None]]:
    """Memory that others can open for as long as the context lasts; None where there is none."""
    if sys.platform != "linux" or platform.machine() not in _ORDERED:
        yield None, None
        return
    file = os.memfd_create("glasshouse")
    try:
        offer = Offer(os.getpid(), file, secrets.token_bytes(_TOKEN.stop))
        memory = _allocated(file, size)
        if memory is None:
            yield None, None
        else:
            memory.mapped[_TOKEN] = offer.token
            yield offer, memory
    finally:
        os.close(file)


def _allocated(file: int, size: int) -> _Memory | None:
    with suppress(OSError):
        # All of it now: a page that is missing later would end the process.
        os.posix_fallocate(file, 0, size)
        return _mapped(file, os.getpid())
    return None


def _opened(offers: list[Offer | None], partners: list[int]) -> Iterator[tuple[int, _Memory]]:
    """The memory of those partners that are on this machine."""
    for partner in partners:
        offer = offers[partner]
        if offer is None:
            continue
        # Where it is on another machine or in another container, there is no such process, or it
        # is another one.
        with suppress(OSError, ValueError):
            file = os.open(f"/proc/{offer.process}/fd/{offer.file}", os.O_RDWR)
            try:
                memory = _mapped(file, offer.process)
            finally:
                os.close(file)
            if memory.mapped[_TOKEN] == offer.token:
                yield partner, memory


def _mapped(file: int, process: int) -> _Memory:
    mapped = mmap.mmap(file, 0)
    return _Memory(mapped, memoryview(mapped)[_COUNTERS].cast("q"), os.pidfd_open(process))
