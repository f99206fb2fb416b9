"""Single requests gathered into batches for one thread."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

# On Linux's scale of 40: about a third of the processor time of a thread beside it.
_STANDS_BACK_BY = 5

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Closed(Exception):
    """The batcher takes no more work."""


@dataclass(frozen=True)
class _Job(Generic[Item, Answer]):
    item: Item
    answer: "asyncio.Future[Answer]"
    since: float


class Batcher(Generic[Item, Answer]):
    """A queue, and threads that each take from it as many as there are, up to max_batch.

    compute: from the items of a batch to as many answers in order; an answer that is an exception
    is raised where its item was submitted, and an exception of compute's own reaches all of them.
    While the threads are at work a queue grows, so batches form by themselves; an idle one starts
    at once, unless is_more_coming says that others are about to be submitted: then the first of a
    batch waits for them, for max_wait seconds at most. A job whose caller has gone, for example
    because its deadline has passed, is not computed.
    """

    def __init__(
        self,
        compute: Callable[[list[Item]], Sequence[Answer | Exception]],
        *,
        name: str,
        max_batch: int = 1,
        max_wait: float = 0.0,
        threads: int = 1,
        is_more_coming: Callable[[], bool] = lambda: False,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._is_more_coming = is_more_coming
        self._queue: deque[_Job[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._computing = 0
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        self._has_begun = False

    @property
    def load(self) -> int:
        """How many items wait or are being computed."""
        return len(self._queue) + self._computing

    async def submit(self, item: Item) -> Answer:
        """The item's answer; raises Closed after `close`, and what compute raised or gave."""
        loop = asyncio.get_running_loop()
        job = _Job[Item, Answer](item, loop.create_future(), time.monotonic())
        with self._changed:
            if self._is_closed:
                raise Closed
            self._queue.append(job)
            if not self._has_begun:
                self._has_begun = True
                for thread in self._threads:
                    thread.start()
            self._changed.notify()
        return await job.answer

    async def close(self) -> None:
        """Take no more, compute what was taken, and end the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads if self._has_begun else ():
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        _stand_back()
        while jobs := self._next_batch():
            try:
                answers = self._compute([job.item for job in jobs])
            # Whatever went wrong belongs to the callers; the thread has others to serve.
            except Exception as error:
                answers = [error] * len(jobs)
            with self._changed:
                self._computing -= len(jobs)
            _deliver(jobs, answers)

    def _next_batch(self) -> list[_Job[Item, Answer]]:
        """Wait for a batch; an empty one says that the work is over."""
        with self._changed:
            while True:
                while self._queue and self._queue[0].answer.done():
                    self._queue.popleft()
                if self._queue:
                    patience = self._patience()
                    if patience <= 0:
                        return self._take()
                    self._changed.wait(patience)
                elif self._is_closed:
                    return []
                else:
                    self._changed.wait()

    def _patience(self) -> float:
        """Seconds for which the first in the queue still waits for others."""
        if len(self._queue) >= self._max_batch or self._is_closed or not self._is_more_coming():
            return 0.0
        return self._queue[0].since + self._max_wait - time.monotonic()

    def _take(self) -> list[_Job[Item, Answer]]:
        jobs: list[_Job[Item, Answer]] = []
        while self._queue and len(jobs) < self._max_batch:
            job = self._queue.popleft()
            if not job.answer.done():
                jobs.append(job)
        self._computing += len(jobs)
        return jobs


def _stand_back() -> None:
    """Let the event loop go first, so that a refusal comes at once however busy the net is."""
    # Only there is a priority a thread's own; elsewhere it would be the whole process's.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + _STANDS_BACK_BY)


def _deliver(jobs: Sequence[_Job[Item, Answer]], answers: Sequence[Answer | Exception]) -> None:
    """Hand the answers to the event loops that wait for them, each woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job[Item, Answer], Answer | Exception]]]
    by_loop = {}
    for pair in zip(jobs, answers, strict=True):
        by_loop.setdefault(pair[0].answer.get_loop(), []).append(pair)
    for loop, pairs in by_loop.items():
        # A closed loop has no callers any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple[_Job[Item, Answer], Answer | Exception]]) -> None:
    for job, answer in pairs:
        if job.answer.done():
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
