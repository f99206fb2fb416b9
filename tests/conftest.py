"""Small images that a small network can learn, and no access to the internet."""

import gc
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from glasshouse.data.images import ImageSet, Splits
from tests.run_files import without_reports

os.environ.setdefault("MPLBACKEND", "Agg")

# Seconds for a test that trains for real or drives a browser; pyproject.toml has those of the rest.
_SLOW_LIMIT = 3600

# A busy machine says nothing about a law, so examples may take as long as they need.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: gzip writes the time, and all processes must name tests alike."""
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > 8 else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that take long more time, unless they have a limit of their own."""
    if "ray" in sys.modules:
        raise pytest.UsageError(
            "a module of tests imports Ray, which then reads its token before tests with nodes "
            "have set it: import it in a fixture"
        )
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {"slow", "browser", "realdata"} and "timeout" not in marks:
            item.add_marker(pytest.mark.timeout(_SLOW_LIMIT))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is imported out of the search for garbage: a third of the time to collect."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow connections to this machine only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put caches into the folder of the test."""
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_reports() -> Iterator[None]:
    """Leave the report out of what the test trains in this process."""
    with without_reports():
        yield


@pytest.fixture
def disk_events(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What happens to each file, by its inode: "on the disk" (fsync) and "named" (its rename)."""
    events: dict[int, list[str]] = defaultdict(list)
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        events[os.fstat(handle).st_ino].append("on the disk")
        fsync(handle)

    def note_name(self: Path, target: Path) -> Path:
        events[self.stat().st_ino].append("named")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    return events


def make_images(count: int, *, size: int = 16, seed: int = 0, prefix: str = "p") -> ImageSet:
    """Noise with one bright quarter, whose position is the label: top left to bottom right."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    images = random.integers(0, 120, (count, 3, size, size), dtype=np.uint8)
    half = size // 2
    for i, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        rows = slice(row * half, (row + 1) * half)
        columns = slice(column * half, (column + 1) * half)
        images[i, :, rows, columns] += np.uint8(100)
    ids = np.array([f"{prefix}/{i:04d}" for i in range(count)])
    return ImageSet(images, labels, ids, ("north-west", "north-east", "south-west", "south-east"))


@pytest.fixture
def tiny_images() -> ImageSet:
    """64 images of 16x16 in four classes."""
    return make_images(64)


@pytest.fixture
def tiny_splits() -> Splits:
    """Three splits of different 16x16 images."""
    return Splits(
        make_images(96, seed=1, prefix="train"),
        make_images(32, seed=2, prefix="validation"),
        make_images(48, seed=3, prefix="test"),
    )


@pytest.fixture
def tiny_net() -> torch.nn.Sequential:
    """Two convolutions, BatchNorm and dropout: everything that training treats differently."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(16 * 4 * 4, 4),
        )


@pytest.fixture(autouse=True)
def _gpu_only_where_there_is_one(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it are skipped without it."""
    folder = os.environ.get("GLASSHOUSE_DATA")
    if not folder:
        pytest.skip("GLASSHOUSE_DATA is not set")
    return Path(folder)
