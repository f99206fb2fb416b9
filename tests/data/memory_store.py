"""A remote store in memory, of which every read is counted and may fail."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest

from glasshouse.data import remote_store

ADDRESS = "memory://shop/photos"
FILES = {f"{name}/{n}.png": bytes([n]) * (n + 1) for name in ("ant", "bee") for n in range(5)}


class Memory:
    """fsspec's store in memory. read: how often each file was; broken: the reads that fail."""

    def __init__(self) -> None:
        self.fs: Any = fsspec.filesystem("memory")
        # A former test's own way of reading, which undoing leaves on the instance.
        vars(self.fs).pop("cat_file", None)
        self.read: Counter[str] = Counter()
        self.broken: list[Exception] = []
        self.lock = threading.Lock()
        self.cat_whole = type(self.fs).cat_file

    def write(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            self.fs.pipe_file(f"/shop/photos/{name}", data)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        with self.lock:
            if self.broken:
                raise self.broken.pop()
            self.read[path.removeprefix("/shop/photos/")] += 1
        whole: bytes = self.cat_whole(self.fs, path)
        return whole[start:end]


@contextmanager
def memory_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """The store with FILES at ADDRESS, which is empty again afterwards."""
    store = Memory()
    # Of the class: each thread has an instance of its own.
    monkeypatch.setattr(type(store.fs), "cat_file", lambda self, *a, **o: store.cat_file(*a, **o))
    monkeypatch.setattr(remote_store, "_FIRST_DELAY_S", 0.0001)
    store.write(FILES)
    yield store
    store.fs.store.clear()
    store.fs.pseudo_dirs[:] = [""]
