"""Dynamic batching: single requests are gathered into batches for a few threads."""

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

# Added to the nice value, from -20 to 19: a thread 5 lower in priority gets about a third of the
# processor time of one that competes with it.
_NICE_INCREMENT = 5

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[], Any]


class Closed(Exception):
    """The batcher accepts no more work."""


@dataclass(frozen=True)
class _Job(Generic[Item, Result]):
    item: Item
    result: "asyncio.Future[Result]"
    since: float


class Batcher(Generic[Item, Result]):
    """A queue, and threads that take whatever waits in it, up to max_batch items at a time.

    compute: from the items of a batch to one result each, in order; a result that is an exception
    is raised where its item was submitted, and an exception that compute raises, for all of them.
    Batches form by themselves while all threads are busy, of items of one group each. Idle threads
    share what waits, and start at once, unless is_more_coming says that other items are about to be
    submitted: then the first item of a batch waits for them, for at most max_wait seconds. A job
    whose caller is gone, for example because its deadline has passed, is not computed.
    """

    def __init__(  # noqa: PLR0913 - all but the first are optional
        self,
        compute: Callable[[list[Item]], Sequence[Result | Exception]],
        *,
        name: str,
        max_batch: int = 1,
        max_wait: float = 0.0,
        threads: int = 1,
        is_more_coming: Callable[[], bool] = lambda: False,
        group: Callable[[Item], Any] = lambda item: None,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._is_more_coming = is_more_coming
        self._group = group
        self._queue: deque[_Job[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._computing = 0
        self._idle = 0
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        self._has_begun = False

    @property
    def load(self) -> int:
        """How many items are queued or being computed."""
        return len(self._queue) + self._computing

    async def submit(self, item: Item) -> Result:
        """The item's result; raises Closed after `close`, and what compute raised or returned."""
        loop = asyncio.get_running_loop()
        job = _Job[Item, Result](item, loop.create_future(), time.monotonic())
        with self._changed:
            if self._is_closed:
                raise Closed
            self._queue.append(job)
            # Threads start with the first job, so that a service that is never asked has none.
            if not self._has_begun:
                self._has_begun = True
                for thread in self._threads:
                    thread.start()
            self._changed.notify()
        return await job.result

    async def close(self) -> None:
        """Accept no more, compute what was accepted, and end the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads if self._has_begun else ():
            # Joined outside the event loop, which has to deliver the results of the last jobs.
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        _lower_priority()
        while jobs := self._next_batch():
            results = self._results(jobs)
            with self._changed:
                self._computing -= len(jobs)
            _deliver(jobs, results)

    def _results(self, jobs: "list[_Job[Item, Result]]") -> Sequence[Result | Exception]:
        try:
            return self._compute([job.item for job in jobs])
        # Any failure belongs to the callers of this batch; the thread has others to serve.
        except Exception as error:
            return [error] * len(jobs)

    def _next_batch(self) -> list[_Job[Item, Result]]:
        """Wait for a batch; an empty one ends the thread."""
        with self._changed:
            self._idle += 1
            while True:
                # A job that nobody waits for any more must not hold up the next one's wait.
                while self._queue and self._queue[0].result.done():
                    self._queue.popleft()
                if self._queue:
                    wait = self._remaining_wait()
                    if wait <= 0:
                        self._idle -= 1
                        return self._take()
                    self._changed.wait(wait)
                elif self._is_closed:
                    return []
                else:
                    self._changed.wait()

    def _remaining_wait(self) -> float:
        """Seconds for which the first item may still wait for others to share its batch."""
        if len(self._queue) >= self._max_batch or self._is_closed or not self._is_more_coming():
            return 0.0
        return self._queue[0].since + self._max_wait - time.monotonic()

    def _take(self) -> list[_Job[Item, Result]]:
        jobs: list[_Job[Item, Result]] = []
        others: list[_Job[Item, Result]] = []
        # Two halves at once are done sooner than the whole by one thread.
        most = min(self._max_batch, math.ceil(len(self._queue) / (1 + self._idle)))
        while self._queue and len(jobs) < most:
            job = self._queue.popleft()
            if job.result.done():
                continue
            is_same = not jobs or self._group(job.item) == self._group(jobs[0].item)
            (jobs if is_same else others).append(job)
        if others:
            self._queue.extendleft(reversed(others))
            # Their own wake-up may have been the one that this thread took.
            self._changed.notify()
        self._computing += len(jobs)
        return jobs


class WorkBatcher(Batcher[Work, Any]):
    """Runs functions, one after the other; a batch only saves the event loop from waking up often.

    A caller may leave while functions of its batch are run before its own, which then is not run.
    """

    def __init__(self, *, name: str, max_batch: int = 1) -> None:
        super().__init__(lambda works: list(map(result_of, works)), name=name, max_batch=max_batch)

    async def submit(self, item: Work) -> Any:
        """What the function returns; raises Closed after `close`, and what the function raised."""
        has_left = False
        try:
            return await super().submit(lambda: None if has_left else item())
        finally:
            has_left = True


def result_of(work: Work) -> Any:
    """What a function returns, or the exception that it raises."""
    try:
        return work()
    # Each function belongs to another caller, so its exception is a result like any other.
    except Exception as error:
        return error


def _lower_priority() -> None:
    """Let the event loop run first, so that it rejects requests at once under any load."""
    # Only Linux has a priority per thread; elsewhere this would lower the whole process.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + _NICE_INCREMENT)


def _deliver(jobs: Sequence[_Job[Item, Result]], results: Sequence[Result | Exception]) -> None:
    """Hand the results to the event loops that wait for them, waking each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job[Item, Result], Result | Exception]]]
    by_loop = {}
    for pair in zip(jobs, results, strict=True):
        by_loop.setdefault(pair[0].result.get_loop(), []).append(pair)
    for loop, pairs in by_loop.items():
        # A closed loop has no callers left; futures may only be set in the thread of their loop.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple[_Job[Item, Result], Result | Exception]]) -> None:
    for job, result in pairs:
        if job.result.done():
            continue
        if isinstance(result, Exception):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)
