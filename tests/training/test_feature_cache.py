"""Cached features are used as they were written, or made again."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from glasshouse.errors import StorageError
from glasshouse.training import feature_cache as module
from glasshouse.training.feature_cache import Values, cached_rows

BOUNDS = [(0, 4), (4, 8), (8, 9)]
ROWS = np.arange(36, dtype=np.float16).reshape(9, 4)


class Backbone:
    """Computes rows, and counts how often."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, blocks: list[tuple[int, int]]) -> Iterator[Values]:
        for block in blocks:
            self.calls.append(block)
            yield ROWS[block[0] : block[1]]


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_verified", {})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_rows_are_computed_once_and_leave_a_file_and_its_record(tmp_path: Path) -> None:
    compute = Backbone()
    found = cached_rows(tmp_path / "a.npy", BOUNDS, compute)
    assert np.array_equal(found, ROWS) and not found.flags.writeable
    assert compute.calls == BOUNDS
    assert np.array_equal(np.load(tmp_path / "a.npy"), ROWS)
    assert np.array_equal(cached_rows(tmp_path / "a.npy", BOUNDS, compute), ROWS)
    assert compute.calls == BOUNDS
    assert names(tmp_path) == ["a.json", "a.npy"]


def test_rows_are_on_the_disk_before_they_get_their_name(
    tmp_path: Path, disk_events: dict[int, list[str]]
) -> None:
    cached_rows(tmp_path / "a.npy", BOUNDS, Backbone())
    assert disk_events[(tmp_path / "a.npy").stat().st_ino] == ["on the disk", "named"]


@pytest.mark.parametrize("damage", ["flipped bits", "truncated", "empty", "longer", "no record"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "a.npy"
    cached_rows(whole, BOUNDS, Backbone())
    monkeypatch.setattr(module, "_verified", {})
    data = bytearray(whole.read_bytes())
    if damage == "flipped bits":
        data[-7] ^= 0xFF
        status = whole.stat()
        whole.write_bytes(data)
        os.utime(whole, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif damage == "no record":
        (tmp_path / "a.json").unlink()
    else:
        size = {"truncated": len(data) - 9, "empty": 0, "longer": len(data)}[damage]
        whole.write_bytes(bytes(data[:size]) + b"x" * (damage == "longer"))
    compute = Backbone()
    assert np.array_equal(cached_rows(whole, BOUNDS, compute), ROWS)
    assert compute.calls == BOUNDS


def test_a_file_that_shrinks_after_it_was_verified_is_made_again(tmp_path: Path) -> None:
    whole = tmp_path / "a.npy"
    cached_rows(whole, BOUNDS, Backbone())
    os.truncate(whole, whole.stat().st_size - 8)
    assert np.array_equal(cached_rows(whole, BOUNDS, Backbone()), ROWS)


def test_a_file_is_verified_once_per_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_rows(tmp_path / "a.npy", BOUNDS, Backbone())
    monkeypatch.setattr(module, "_checksum", None)
    assert np.array_equal(cached_rows(tmp_path / "a.npy", BOUNDS, Backbone()), ROWS)


def test_a_damaged_block_of_an_interrupted_extraction_is_computed_again(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def stop_at_the_last(blocks: list[tuple[int, int]]) -> Iterator[Values]:
        for block in blocks:
            calls.append(block)
            if block == BOUNDS[-1]:
                raise KeyboardInterrupt
            yield ROWS[block[0] : block[1]]

    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path / "a.npy", BOUNDS, stop_at_the_last)
    block = tmp_path / "a" / "000000004.npy"
    data = bytearray(block.read_bytes())
    data[-10] ^= 1
    block.write_bytes(data)
    compute = Backbone()
    assert np.array_equal(cached_rows(tmp_path / "a.npy", BOUNDS, compute), ROWS)
    assert compute.calls == BOUNDS[1:]


def test_a_full_disk_is_an_error_that_keeps_the_blocks_also_where_nothing_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened, unlink = Path.open, Path.unlink

    def no_space(path: Path, mode: str = "r", *rest: Any, **options: Any) -> IO[Any]:
        if path.name.endswith(".unfinished"):
            full()
        return opened(path, mode, *rest, **options)

    def read_only(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(".unfinished"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "open", no_space)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(StorageError, match="No space left on device"):
        cached_rows(tmp_path / "a.npy", BOUNDS, Backbone())
    monkeypatch.undo()
    compute = Backbone()
    assert np.array_equal(cached_rows(tmp_path / "a.npy", BOUNDS, compute), ROWS)
    assert compute.calls == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".b.npy.1.unfinished").write_bytes(b"x" * 10_000)
    cached_rows(tmp_path / "a.npy", BOUNDS, Backbone())
    assert names(tmp_path) == ["a.json", "a.npy"]


def test_two_processes_compute_the_rows_once(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
import numpy as np
from glasshouse.training.feature_cache import cached_rows

def compute(blocks):
    for start, end in blocks:
        print("computed", start, flush=True)
        time.sleep(0.3)
        yield np.zeros((end - start, 2), np.float16)

print(cached_rows(Path(sys.argv[1]), [(0, 4), (4, 8)], compute).shape)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(process.communicate(timeout=600)[0] for process in both)
    assert output.count("computed") == 2 and output.count("(8, 2)") == 2
