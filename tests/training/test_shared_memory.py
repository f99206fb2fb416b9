"""Exchanges through shared memory: threads stand for the processes, and map it as they would."""

import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from torch import Tensor

from glasshouse.training import process_group, shared_memory
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.shared_memory import SharedMemory
from glasshouse.training.tree_sum import tree_sum
from tests.training.at_once import at_once

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="shared on Linux, x86-64"
)


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


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("size", "machine"), [(2, 1), (4, 1), (4, 2), (8, 2), (8, 4)])
def test_between_machines_each_process_sends_its_part_of_the_sum_of_its_machine(
    size: int,
    machine: int,
    in_place: bool,
    kind: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
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
            own = own.to(kind)
            if in_place and place is not None and kind == torch.float32:
                own = place.copy_(own)
            sums.append(group.sum(own))
        return sums

    monkeypatch.setattr(process_group, "_sent", send)
    found, _ = at_once(size, work)
    for turn, count in enumerate(counts):
        wanted = tree_sum(numbers(rank, turn, count).to(kind) for rank in range(size))
        for sums in found:
            assert torch.equal(sums[turn], wanted)
    levels = int(math.log2(size // machine))
    assert sum(sent) == levels * sum(counts) * size // machine


def test_a_sum_that_is_not_changed_is_the_same_memory_and_kept_until_the_next() -> None:
    has_read = threading.Event()
    seen: list[Tensor] = []

    def work(memory: SharedMemory) -> Tensor:
        group = ProcessGroup(memory.rank, 2, memory)
        first = group.sum(torch.full((4,), 1.0 + memory.rank), changes=False)
        if memory.rank == 1:
            # Meanwhile the first process writes for the second sum, and waits.
            deadline = time.monotonic() + 30
            while memory._block[0].counter[0] < 3 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert memory._block[0].counter[0] == 3
            seen.append(first.clone())
            has_read.set()
        second = group.sum(torch.full((4,), 10.0 + memory.rank), changes=False)
        assert second.tolist() == [21.0] * 4
        return second

    (one, other), _ = at_once(2, work)
    assert has_read.is_set() and seen[0].tolist() == [3.0] * 4
    one.fill_(7.0)
    assert other.tolist() == [7.0] * 4, "one memory, mapped twice"


def test_a_sum_that_is_changed_is_the_own_one_of_each_process() -> None:
    def work(memory: SharedMemory) -> list[float]:
        total = ProcessGroup(memory.rank, 2, memory).sum(torch.ones(4)).add_(memory.rank)
        memory.gather(None)
        found: list[float] = total.tolist()
        return found

    assert at_once(2, work)[0] == [[2.0] * 4, [3.0] * 4]


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
                own = place.copy_(own)
            total = group.sum(own, changes=False)
            # Others may be late with reading: what they read has to stay.
            time.sleep(0.001 * (memory.rank % 3))
            sums.append(total.clone())
        return sums, placed

    found, _ = at_once(size, work)
    for sums, placed in found:
        # There is no room yet for the first, and for the first of another size.
        assert placed == [False, True, True, True, False, True]
        for turn, count in enumerate(counts):
            wanted = tree_sum(numbers(rank, turn, count) for rank in range(size))
            assert torch.equal(sums[turn], wanted)


def test_what_is_written_in_its_place_is_not_copied() -> None:
    def work(memory: SharedMemory) -> None:
        ProcessGroup(memory.rank, 2, memory).sum(torch.zeros(4))
        place = memory.place(4)
        assert place is not None
        memory.begin(place)
        memory.sum_part(place.fill_(1.0 + memory.rank))
        total = memory.gather_parts(place)
        assert total.tolist() == [3.0] * 4
        memory.gather(None)
        if memory.rank == 0:
            place.fill_(9.0)
        memory.gather(None)
        assert total.tolist() == [9.0] * 4, "the place of the first is that of the sum"

    at_once(2, work)


def test_a_part_of_the_sum_is_a_number_of_whole_cache_lines() -> None:
    def work(memory: SharedMemory) -> list[tuple[int | None, int]]:
        found = []
        for own in (torch.ones(100), torch.ones(3), torch.ones(70, dtype=torch.float64)):
            memory.begin(own)
            part = memory.sum_part(own)
            begun = part.data_ptr() - memory.gather_parts(own).data_ptr()
            found.append((begun if part.numel() else None, part.nbytes))
        return found

    found, _ = at_once(4, work)
    assert [each[0] for each in found] == [(0, 128), (128, 128), (256, 128), (384, 16)]
    # Less than a line: one process has all of it, the others nothing.
    assert [each[1] for each in found] == [(0, 12), (None, 0), (None, 0), (None, 0)]
    assert [each[2] for each in found] == [(0, 192), (192, 192), (384, 176), (None, 0)]


def test_a_process_that_shares_no_memory_has_no_place() -> None:
    assert ProcessGroup().place(4) is None
    assert SharedMemory(0, lambda value: [value, None]).place(0) is None


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

    def work(memory: SharedMemory) -> Sequence[int]:
        return [memory.begin(torch.zeros(4)) for _ in range(3)]

    found, talks = at_once(2, work)
    assert found == [[1] * 3] * 2
    assert talks == 2, "it is tried once"


def test_one_of_two_that_cannot_open_the_memory_keeps_both_from_it() -> None:
    def work(memory: SharedMemory) -> int:
        opened = memory.gather

        def gather(value: Any) -> list[Any]:
            # On another machine, the same number may be some other process.
            if memory.rank == 1 and isinstance(value, shared_memory.Offer):
                return [shared_memory.Offer(each.process, each.file, bytes(64))
                        for each in opened(value)]  # fmt: skip
            return opened(value)

        memory.gather = gather
        return memory.begin(torch.zeros(4))

    assert at_once(2, work)[0] == [1, 1]


def test_large_tensors_and_those_on_other_devices_take_the_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_memory, "_MOST_BYTES", 400)

    def work(memory: SharedMemory) -> list[int]:
        tensors = torch.zeros(100), torch.zeros(200), torch.zeros(1, device="meta"), torch.zeros(9)
        return [memory.begin(own) for own in tensors]

    assert at_once(2, work)[0] == [[2, 1, 1, 2]] * 2


def test_sums_that_are_too_large_for_memory_may_come_between_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_memory, "_MOST_BYTES", 400)
    post = defaultdict[int, Queue[Tensor]](Queue)
    this = threading.local()

    def send(own: Tensor, partner: int) -> Tensor:
        post[this.rank].put(own.clone())
        return post[partner].get(timeout=30)

    monkeypatch.setattr(process_group, "_sent", send)
    counts = [100, 200, 100, 200, 200, 100, 100]

    def work(memory: SharedMemory) -> list[Tensor]:
        this.rank, group = memory.rank, ProcessGroup(memory.rank, 2, memory)
        sums = []
        for turn, count in enumerate(counts):
            own, place = numbers(memory.rank, turn, count), group.place(count)
            assert (place is not None) == (turn > 0 and count == 100)
            total = group.sum(own if place is None else place.copy_(own), changes=False)
            time.sleep(0.002 * memory.rank)
            sums.append(total.clone())
        return sums

    for sums in at_once(2, work)[0]:
        for turn, count in enumerate(counts):
            wanted = numbers(0, turn, count) + numbers(1, turn, count)
            assert torch.equal(sums[turn], wanted)


def test_memory_that_is_another_process_s_leaves_no_open_file() -> None:
    def work(memory: SharedMemory) -> None:
        told = memory.gather

        def gather(value: Any) -> list[Any]:
            is_offer = isinstance(value, shared_memory.Offer)
            return [replace(each, token=bytes(64)) if is_offer else each for each in told(value)]

        memory.gather = gather
        for count in (4, 100, 1000):
            assert memory.begin(torch.zeros(count)) == 1

    before = len(list(Path("/proc/self/fd").iterdir()))
    at_once(2, work)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_process_that_has_ended_is_noticed_and_what_it_did_before_counts() -> None:
    def work(memory: SharedMemory) -> SharedMemory:
        ProcessGroup(memory.rank, 2, memory).sum(torch.zeros(4))
        return memory

    (memory, _), _ = at_once(2, work)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    theirs = memory._block[1]
    memory._block[1] = replace(theirs, ended=os.pidfd_open(ended.pid))
    # It is not waited for: a process that has ended so is there until its parent asks.
    memory.begin(torch.zeros(4))
    with pytest.raises(EOFError, match="has ended"):
        memory.sum_part(torch.zeros(4))
    theirs.counter[0] = 5
    memory.begin(torch.zeros(4))
    memory.sum_part(torch.zeros(4))
    with pytest.raises(EOFError, match="has ended"):
        memory.gather_parts(torch.zeros(4))
    ended.wait()


@pytest.mark.parametrize(
    ("reached", "size"),
    [
        ([{0}], 1),
        ([{0, 1}, {0, 1}], 2),
        ([{0, 1}, {1}], 1),
        ([{0, 1}, {0, 1}, {2, 3}, {2, 3}], 2),
        # Three on one machine: pairs are no blocks, as the last one has none.
        ([{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {3}], 1),
        ([{*range(8)}] * 8, 8),
        ([{*range(8)}] * 7 + [{4, 5, 6, 7}], 4),
        ([set()] * 4, 1),
    ],
)
def test_a_block_is_as_large_as_all_processes_can_have(reached: list[set[int]], size: int) -> None:
    assert shared_memory._block_size(reached) == size
