"""Threads that stand for the processes of a group, and map its shared memory as they would."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from glasshouse.training.shared_memory import SharedMemory


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
        found = [pool.submit(work, SharedMemory(rank, talk.gather(rank)))
                 for rank in range(size)]  # fmt: skip
        return [each.result(timeout=60) for each in found], talk.calls
