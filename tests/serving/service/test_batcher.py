import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from glasshouse.serving.service.batcher import Batcher, Closed, WorkBatcher, _deliver, _Job


class Slow:
    """Doubles numbers once its gate is open; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        assert self.gate.wait(120)
        return [2 * item for item in items]


async def until_computing(slow: Slow) -> None:
    while not slow.batches:
        await asyncio.sleep(0.001)


def test_items_that_arrive_during_a_batch_form_the_next_batches() -> None:
    async def story() -> None:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(slow, name="t", max_batch=3)
        first = asyncio.create_task(batcher.submit(0))
        await until_computing(slow)
        others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 6)]
        await asyncio.sleep(0)  # each task runs up to its first wait: it has submitted
        assert batcher.load == 6
        slow.gate.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
        assert slow.batches == [[0], [1, 2, 3], [4, 5]]
        await batcher.close()

    asyncio.run(story())


def test_an_idle_thread_starts_at_once_unless_more_is_coming() -> None:
    async def story(is_coming: bool, patience: float) -> float:
        batcher: Batcher[int, int] = Batcher(
            lambda items: items,
            name="t",
            max_batch=4,
            max_wait=patience,
            is_more_coming=lambda: is_coming,
        )
        began = time.monotonic()
        await batcher.submit(1)
        took = time.monotonic() - began
        await batcher.close()
        return took

    assert asyncio.run(story(False, 600)) < 300
    assert asyncio.run(story(True, 0.1)) >= 0.1


def test_idle_threads_share_what_waits() -> None:
    async def story() -> list[int]:
        slow = Slow()
        slow.gate.set()
        batcher: Batcher[int, int] = Batcher(slow, name="t", max_batch=8, threads=2)
        await batcher.submit(0)
        while batcher._idle < 2:
            await asyncio.sleep(0.001)
        slow.gate.clear()
        # Neither thread takes anything before all of it waits.
        with batcher._changed:
            waiting = [asyncio.create_task(batcher.submit(i)) for i in range(7)]
            await asyncio.sleep(0)
        while len(slow.batches) < 3:
            await asyncio.sleep(0.001)
        slow.gate.set()
        assert await asyncio.gather(*waiting) == [2 * i for i in range(7)]
        await batcher.close()
        return [len(batch) for batch in slow.batches]

    assert asyncio.run(story()) == [1, 4, 3]


def test_a_full_batch_waits_for_nobody() -> None:
    async def story() -> float:
        batcher: Batcher[int, int] = Batcher(
            lambda items: items, name="t", max_batch=4, max_wait=600, is_more_coming=lambda: True
        )
        began = time.monotonic()
        await asyncio.gather(*(batcher.submit(i) for i in range(4)))
        return time.monotonic() - began

    assert asyncio.run(story()) < 300


def test_an_exception_is_raised_where_its_item_was_submitted() -> None:
    def compute(items: list[int]) -> list[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    async def story() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(compute, name="t", max_batch=8)
        return await asyncio.gather(*(batcher.submit(i) for i in range(4)), return_exceptions=True)

    found = asyncio.run(story())
    assert found[0] == 0 and found[2] == 2
    assert isinstance(found[1], ValueError) and isinstance(found[3], ValueError)


def test_a_failed_batch_raises_for_all_its_items_and_the_thread_survives() -> None:
    def compute(items: list[int]) -> list[int]:
        if 0 in items:
            raise RuntimeError("broken")
        return items

    async def story() -> None:
        batcher: Batcher[int, int] = Batcher(compute, name="t", max_batch=8)
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.submit(0)
        assert await batcher.submit(1) == 1

    asyncio.run(story())


def test_a_failed_batch_of_several_raises_for_each_and_leaves_no_load() -> None:
    async def story() -> None:
        gate = Slow()

        def compute(items: list[int]) -> Sequence[int | Exception]:
            found = gate(items)
            if 0 not in items:
                raise RuntimeError("broken")
            return found

        batcher: Batcher[int, int] = Batcher(compute, name="t", max_batch=8)
        first = asyncio.create_task(batcher.submit(0))
        await until_computing(gate)
        others = [asyncio.create_task(batcher.submit(i)) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        assert batcher.load == 4
        gate.gate.set()
        found = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 120)
        assert gate.batches == [[0], [1, 2, 3]]
        assert found[0] == 0
        assert [str(each) for each in found[1:]] == ["broken"] * 3
        assert batcher.load == 0
        await batcher.close()

    asyncio.run(story())


def test_the_load_is_what_waits_and_what_is_computed_and_falls_to_nothing() -> None:
    async def story() -> None:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(slow, name="t", max_batch=2)
        assert batcher.load == 0
        first = asyncio.create_task(batcher.submit(0))
        await until_computing(slow)
        others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 6)]
        await asyncio.sleep(0)
        assert batcher.load == 6
        slow.gate.set()
        await asyncio.gather(first, *others)
        assert [len(batch) for batch in slow.batches] == [1, 2, 2, 1]
        assert batcher.load == 0
        await batcher.close()

    asyncio.run(story())


def test_several_threads_compute_concurrently() -> None:
    meeting = threading.Barrier(2)

    def together(items: list[int]) -> Sequence[int]:
        meeting.wait(120)
        return items

    async def story() -> None:
        batcher: Batcher[int, int] = Batcher(together, name="pair", threads=2)
        assert await asyncio.gather(*(batcher.submit(i) for i in range(8))) == list(range(8))
        assert batcher.load == 0
        await batcher.close()

    asyncio.run(story())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pair-")]


@pytest.mark.skipif(sys.platform != "linux", reason="a priority of a thread's own")
def test_the_threads_have_a_lower_priority_than_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[tuple[int, int]] = []
    set_priority = os.setpriority

    def note(which: int, who: int, priority: int) -> None:
        assert which == os.PRIO_PROCESS
        wanted.append((who, priority))
        set_priority(which, who, priority)

    def priorities(items: list[int]) -> Sequence[tuple[int, int]]:
        thread = threading.get_native_id()
        return [(thread, os.getpriority(os.PRIO_PROCESS, thread))] * len(items)

    # What is asked for shows also in a process of the lowest priority, where nothing changes.
    monkeypatch.setattr(os, "setpriority", note)
    batcher: Batcher[int, tuple[int, int]] = Batcher(priorities, name="t")
    here = threading.get_native_id()
    own = os.getpriority(os.PRIO_PROCESS, here)
    thread, found = asyncio.run(batcher.submit(0))
    assert thread != here
    assert wanted == [(thread, own + 5)]
    assert found == min(own + 5, 19)
    assert os.getpriority(os.PRIO_PROCESS, here) == own


def test_a_job_whose_caller_is_gone_is_not_computed() -> None:
    async def story() -> list[list[int]]:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(slow, name="t", max_batch=8)
        first = asyncio.create_task(batcher.submit(0))
        await until_computing(slow)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.submit(1), 0.02)
        last = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        slow.gate.set()
        assert [await first, await last] == [0, 4]
        return slow.batches

    assert asyncio.run(story()) == [[0], [2]]


def test_nothing_is_computed_for_a_caller_that_left_the_middle_of_the_queue() -> None:
    async def story() -> list[list[int]]:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(slow, name="t", max_batch=3)
        first = asyncio.create_task(batcher.submit(0))
        await until_computing(slow)
        others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 6)]
        await asyncio.sleep(0)
        for gone in (others[1], others[3]):
            gone.cancel()
        await asyncio.sleep(0)
        slow.gate.set()
        assert await asyncio.gather(first, *others[::2]) == [0, 2, 6, 10]
        await batcher.close()
        assert batcher.load == 0
        return slow.batches

    # Those who left take no place in a batch either.
    assert asyncio.run(story()) == [[0], [1, 3, 5]]


def test_closing_computes_what_was_accepted_and_accepts_no_more() -> None:
    async def story() -> None:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(slow, name="t")
        waiting = [asyncio.create_task(batcher.submit(i)) for i in range(5)]
        await until_computing(slow)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            await batcher.submit(9)
        slow.gate.set()
        assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8]
        await closing

    asyncio.run(story())


def test_a_batcher_that_was_never_used_closes_and_has_no_threads() -> None:
    async def story() -> None:
        batcher: Batcher[int, int] = Batcher(lambda items: items, name="unused", threads=2)
        await batcher.close()
        with pytest.raises(Closed):
            await batcher.submit(1)

    asyncio.run(story())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unused-")]


def test_a_function_whose_caller_leaves_during_its_batch_is_not_run() -> None:
    async def story() -> None:
        gate, run = threading.Event(), []
        batcher = WorkBatcher(name="t", max_batch=4)
        busy = asyncio.create_task(batcher.submit(lambda: gate.wait(120)))
        # Until the thread computes it, the others could join its batch.
        while batcher._queue or not batcher.load:
            await asyncio.sleep(0.001)
        leaving = asyncio.Event()
        second_gate = threading.Event()
        loop = asyncio.get_running_loop()

        def first() -> int:
            loop.call_soon_threadsafe(leaving.set)
            assert second_gate.wait(120)
            return 1

        stays = asyncio.create_task(batcher.submit(first))
        await asyncio.sleep(0)
        leaves = asyncio.create_task(batcher.submit(lambda: run.append(2)))
        fails = asyncio.create_task(batcher.submit(lambda: 1 // 0))
        await asyncio.sleep(0)
        gate.set()
        await leaving.wait()
        leaves.cancel()
        await asyncio.wait([leaves])
        second_gate.set()
        assert await busy and await stays == 1
        with pytest.raises(ZeroDivisionError):
            await fails
        assert not run
        await batcher.close()

    asyncio.run(story())


def test_a_batch_has_items_of_one_group_and_none_waits_for_ever() -> None:
    seen: list[list[str]] = []

    def compute(items: list[str]) -> list[str]:
        seen.append(items)
        time.sleep(0.001)
        return [item.upper() for item in items]

    batcher: Batcher[str, str] = Batcher(
        compute, name="t", max_batch=4, threads=2, group=lambda item: item[0]
    )
    items = [f"{'abc'[i * i % 3]}{i}" for i in range(60)]

    async def ask() -> list[str]:
        try:
            return await asyncio.gather(*(batcher.submit(item) for item in items))
        finally:
            await batcher.close()

    assert asyncio.run(ask()) == [item.upper() for item in items]
    assert sorted(item for batch in seen for item in batch) == sorted(items)
    for batch in seen:
        assert len(batch) <= 4 and len({item[0] for item in batch}) == 1
    # Batches are as large as they can be: not one item each.
    assert len(seen) < 40


def test_a_batcher_that_is_told_nothing_takes_one_at_a_time_in_one_thread_at_once() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: items, name="t")
    assert (batcher._max_batch, batcher._max_wait, len(batcher._threads)) == (1, 0.0, 1)
    assert not batcher._is_more_coming() and batcher._group(1) == batcher._group(2)
    # No thread keeps a process alive that wants to end.
    assert all(thread.daemon for thread in batcher._threads)
    assert WorkBatcher(name="t")._max_batch == 1


def test_a_batcher_that_closes_does_not_wait_for_others_to_share_a_batch() -> None:
    async def story() -> list[int]:
        batcher: Batcher[int, int] = Batcher(
            lambda items: items, name="t", max_batch=9, max_wait=600, is_more_coming=lambda: True
        )
        waiting = [asyncio.create_task(batcher.submit(i)) for i in range(3)]
        await asyncio.sleep(0)
        await batcher.close()
        return await asyncio.gather(*waiting)

    assert asyncio.run(story()) == [0, 1, 2]


def test_groups_are_compared_by_value() -> None:
    async def story() -> list[list[int]]:
        slow = Slow()
        batcher: Batcher[int, int] = Batcher(
            slow, name="t", max_batch=9, group=lambda item: (item % 2, "group")
        )
        waiting = [asyncio.create_task(batcher.submit(9))]
        await until_computing(slow)
        waiting += [asyncio.create_task(batcher.submit(i)) for i in range(6)]
        await asyncio.sleep(0)
        slow.gate.set()
        await asyncio.gather(*waiting)
        await batcher.close()
        return slow.batches

    assert asyncio.run(story()) == [[9], [0, 2, 4], [1, 3, 5]]


def test_a_batch_without_a_result_for_each_item_is_an_error() -> None:
    async def story() -> None:
        job = _Job(1, asyncio.get_running_loop().create_future(), 0.0)
        with pytest.raises(ValueError, match="shorter"):
            _deliver([job], [])

    asyncio.run(story())
