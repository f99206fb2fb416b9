"""Exchanges through shared memory: threads stand for the processes, and map it as they would."""

import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Queue
from typing import Any

import pytest
import torch
from torch import Tensor

from glasshouse.training import process_group, shared_memory
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.shard_sum import tree_sum
from glasshouse.training.shared_memory import SharedMemory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="shared on Linux, x86-64"
)


class Talk:
    """What a number of threads say to each other."""

    def __init__(self, size: int) -> None:
        self.size, self.calls = size, 0
        self.said: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=30)

    def gather(self, rank: int) -> Callable[[Any], list[Any]]:
        def gathered(value: Any) -> list[Any]:
            self.said[rank] = value
            self.barrier.wait()
            found = list(self.said)
            if self.barrier.wait() == 0:
                self.calls += 1
            return found

        return gathered


def at_once(size: int, work: Callable[[SharedMemory], Any]) -> tuple[list[Any], int]:
    """What the work of each of so many processes returns, and how often they talked."""
    talk = Talk(size)
    with ThreadPoolExecutor(size) as pool:
        found = [pool.submit(work, SharedMemory(rank, size, talk.gather(rank)))
                 for rank in range(size)]  # fmt: skip
        return [each.result(timeout=60) for each in found], talk.calls


def numbers(rank: int, turn: int, count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(100 * turn + rank))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_sums_have_the_bytes_of_the_tree_and_nothing_goes_through_the_loopback(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [5, 5, 300, 1, 299, 4000, 4000, 4000]
    monkeypatch.setattr(process_group, "_sent", lambda own, partner: pytest.fail("sent"))

    def work(memory: SharedMemory) -> list[Tensor]:
        group = ProcessGroup(memory.rank, size, memory)
        return [group.sum(numbers(memory.rank, turn, count)) for turn, count in enumerate(counts)]

    found, talks = at_once(size, work)
    for turn, count in enumerate(counts):
        wanted = tree_sum(numbers(rank, turn, count) for rank in range(size))
        for sums in found:
            assert torch.equal(sums[turn], wanted)
    # Room is made for 5, 300 and 4,000 numbers, in two rounds each.
    assert talks == 6


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("size", "machine"), [(2, 1), (4, 1), (4, 2), (8, 2), (8, 4)])
def test_between_machines_each_process_sends_its_part_of_the_sum_of_its_machine(
    size: int, machine: int, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [5, 1, 300, 4001, 4000]
    this, post = threading.local(), defaultdict[tuple[int, int], Queue[Tensor]](Queue)
    sent = [0] * size

    def send(own: Tensor, partner: int) -> Tensor:
        sent[this.rank] += own.numel()
        post[this.rank, partner].put(own.clone())
        return post[partner, this.rank].get(timeout=30)

    def work(memory: SharedMemory) -> list[Tensor]:
        this.rank, told = memory.rank, memory.gather

        def gather(value: Any) -> list[Any]:
            # What others offer means nothing here.
            return [
                replace(each, token=bytes(64))
                if isinstance(each, shared_memory.Offer) and rank // machine != this.rank // machine
                else each
                for rank, each in enumerate(told(value))
            ]

        memory.gather = gather
        group, sums = ProcessGroup(memory.rank, size, memory), []
        for turn, count in enumerate(counts):
            own, place = numbers(memory.rank, turn, count), group.place(count)
            assert machine > 1 or place is None
            sums.append(group.sum(place.copy_(own) if in_place and place is not None else own))
        return sums

    monkeypatch.setattr(process_group, "_sent", send)
    found, _ = at_once(size, work)
    for turn, count in enumerate(counts):
        wanted = tree_sum(numbers(rank, turn, count) for rank in range(size))
        for sums in found:
            assert torch.equal(sums[turn], wanted)
    levels = int(math.log2(size // machine))
    assert sum(sent) == levels * sum(counts) * size // machine


def test_what_a_partner_reads_is_kept_until_it_begins_the_next_sum() -> None:
    has_read = threading.Event()
    views: list[Tensor] = []

    def work(memory: SharedMemory) -> None:
        memory.begin(torch.zeros(4))
        other = memory.exchanged(torch.full((4,), 1.0 + memory.rank), memory.rank ^ 1)
        assert other is not None
        if memory.rank == 1:
            # Meanwhile the first process writes for the second sum, and waits.
            deadline = time.monotonic() + 30
            while memory._theirs[0].counters[0] < 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            views.append(other.clone())
            has_read.set()
        memory.begin(torch.zeros(4))
        again = memory.exchanged(torch.full((4,), 10.0 + memory.rank), memory.rank ^ 1)
        assert again is not None and again.tolist() == [10.0 + (memory.rank ^ 1)] * 4

    at_once(2, work)
    assert has_read.is_set() and views[0].tolist() == [1.0] * 4


@pytest.mark.parametrize("size", [2, 4, 8])
def test_what_is_written_where_it_is_read_has_the_sum_of_the_tree(size: int) -> None:
    counts = [300, 300, 4, 300, 310, 300]

    def work(memory: SharedMemory) -> tuple[list[Tensor], list[bool]]:
        group = ProcessGroup(memory.rank, size, memory)
        sums, placed = [], []
        for turn, count in enumerate(counts):
            own, place = numbers(memory.rank, turn, count), group.place(count)
            placed.append(place is not None)
            if place is not None:
                assert memory.holds(place) and not memory.holds(own)
                # A partner may be late with reading: what it reads has to stay.
                own = place.copy_(own)
            sums.append(group.sum(own))
            assert not memory.holds(sums[-1])
        return sums, placed

    found, _ = at_once(size, work)
    for sums, placed in found:
        # There is no room yet for the first, and for the first of another size.
        assert placed == [False, True, True, True, False, True]
        for turn, count in enumerate(counts):
            wanted = tree_sum(numbers(rank, turn, count) for rank in range(size))
            assert torch.equal(sums[turn], wanted)


def test_what_was_written_for_a_partner_is_kept_until_the_next_sum_but_one() -> None:
    def work(memory: SharedMemory) -> list[list[float]]:
        group, seen = ProcessGroup(memory.rank, 2, memory), []
        group.sum(torch.zeros(4))
        for turn in range(6):
            place = group.place(4)
            assert place is not None
            group.sum(place.fill_(turn))
            seen.append(place.tolist())
        return seen

    found, _ = at_once(2, work)
    assert found == [[[float(turn)] * 4 for turn in range(6)]] * 2


def test_a_place_is_not_where_a_partner_still_reads_and_is_read_as_it_is() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(memory: SharedMemory) -> None:
        partner = memory.rank ^ 1
        memory.begin(torch.zeros(4))
        first = memory.exchanged(torch.full((4,), 1.0 + memory.rank), partner)
        place = memory.place(4)
        assert first is not None and place is not None
        place.fill_(90.0 + memory.rank)
        both.wait()
        assert first.tolist() == [1.0 + partner] * 4
        memory.begin(place)
        second = memory.exchanged(place, partner)
        assert second is not None and second.tolist() == [90.0 + partner] * 4
        both.wait()
        # The memory of the partner itself, not of a copy.
        place.fill_(memory.rank)
        both.wait()
        assert second.tolist() == [float(partner)] * 4

    at_once(2, work)


def test_a_process_without_partners_has_no_place() -> None:
    assert ProcessGroup().place(4) is None
    assert SharedMemory(0, 2, lambda value: [value, None]).place(0) is None


def not_here(*_: object) -> None:
    raise OSError


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (platform, "machine", lambda: "aarch64"),
        (sys, "platform", "darwin"),
        (os, "posix_fallocate", not_here),
        (os, "pidfd_open", not_here),
    ],
)
def test_without_shared_memory_tensors_take_the_loopback(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
) -> None:
    monkeypatch.setattr(module, name, value)

    def work(memory: SharedMemory) -> Sequence[Tensor | None]:
        found = []
        for _ in range(3):
            memory.begin(torch.zeros(4))
            found.append(memory.exchanged(torch.zeros(4), memory.rank ^ 1))
        return found

    found, talks = at_once(2, work)
    assert found == [[None] * 3] * 2
    assert talks == 2, "it is tried once"


def test_one_of_two_that_cannot_open_the_memory_keeps_both_from_it() -> None:
    def work(memory: SharedMemory) -> Tensor | None:
        opened = memory.gather

        def gather(value: Any) -> list[Any]:
            # On another machine, the same number may be some other process.
            if memory.rank == 1 and isinstance(value, shared_memory.Offer):
                return [shared_memory.Offer(each.process, each.file, bytes(64))
                        for each in opened(value)]  # fmt: skip
            return opened(value)

        memory.gather = gather
        memory.begin(torch.zeros(4))
        return memory.exchanged(torch.zeros(4), memory.rank ^ 1)

    assert at_once(2, work)[0] == [None, None]


def test_large_tensors_and_those_on_other_devices_take_the_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_memory, "_MOST_BYTES", 400)

    def work(memory: SharedMemory) -> list[bool]:
        found = []
        for own in (torch.zeros(100), torch.zeros(200), torch.zeros(1, device="meta")):
            memory.begin(own)
            found.append(memory.exchanged(own, memory.rank ^ 1) is not None)
        return found

    assert at_once(2, work)[0] == [[True, False, False]] * 2


def test_a_partner_that_has_ended_is_noticed_and_what_it_wrote_before_counts() -> None:
    def work(memory: SharedMemory) -> SharedMemory:
        memory.begin(torch.zeros(4))
        memory.exchanged(torch.zeros(4), memory.rank ^ 1)
        return memory

    (memory, _), _ = at_once(2, work)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    theirs = memory._theirs[1]
    memory._theirs[1] = shared_memory._Memory(
        theirs.mapped, theirs.counters, os.pidfd_open(ended.pid)
    )
    # It is not waited for: a process that has ended so is there until its parent asks.
    memory.begin(torch.zeros(4))
    with pytest.raises(EOFError, match="has ended"):
        memory.exchanged(torch.zeros(4), 1)
    theirs.counters[0] = 3
    memory.begin(torch.zeros(4))
    assert memory.exchanged(torch.zeros(4), 1) is not None
    ended.wait()
