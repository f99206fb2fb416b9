import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from glasshouse.data.device_copy import brought, on_device, read_ahead, room_on, to_device

CPU = torch.device("cpu")


def test_on_the_cpu_nothing_is_copied() -> None:
    array = np.arange(6)
    tensor = on_device(array, CPU)
    array[0] = 7
    assert tensor.tolist() == [7, 1, 2, 3, 4, 5]


def test_images_may_take_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (72 << 30, 96 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 11 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 << 30)
    assert room_on(torch.device("cuda")) == 20 << 30
    # Of other devices, torch does not say what is free.
    assert room_on(torch.device("mps")) == 4 << 30


def test_results_come_in_order_and_one_ahead_of_their_use() -> None:
    begun, next_is_read = [], threading.Event()

    def read(number: int) -> tuple[int, str]:
        begun.append(number)
        if number == 2:
            next_is_read.set()
        return number, threading.current_thread().name

    found = read_ahead(read, iter(range(1, 6)))
    assert next(found)[0] == 1
    assert next_is_read.wait(60)
    # The one after that waits until the second is used.
    assert begun == [1, 2]
    rest = list(found)
    assert [number for number, _ in rest] == [2, 3, 4, 5]
    assert all(name.startswith("read-ahead") for _, name in rest)


def test_nothing_to_read_gives_nothing() -> None:
    assert list(read_ahead(abs, [])) == []


def test_an_error_comes_at_its_own_place() -> None:
    found = read_ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_the_thread_ends_with_a_reader_that_stops_early() -> None:
    found = read_ahead(abs, [1, 2, 3])
    next(found)
    found.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("read-ahead")]


def test_only_a_copy_from_main_memory_to_a_gpu_is_not_waited_for() -> None:
    def is_async(is_cpu: bool, device: str) -> Any:
        values: Any = SimpleNamespace(is_cpu=is_cpu, to=lambda _, non_blocking: non_blocking)
        return to_device(values, torch.device(device))

    assert is_async(True, "cuda") is True
    assert [is_async(True, "cpu"), is_async(True, "mps")] == [False, False]
    assert is_async(False, "cuda") is False


def test_a_tensor_of_anybodys_is_brought_from_pinned_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, ...]] = []

    def pin_memory(self: torch.Tensor) -> torch.Tensor:
        seen.append(("pinned", self.stride()))
        return self

    def to(self: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
        seen.append((device.type, self.dtype, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    wide = torch.zeros(2, 3, dtype=torch.float64)
    brought(wide.T, torch.device("cuda"))
    # One channel for all three has no memory for each of them.
    brought(torch.zeros(2, 1).expand(-1, 3), torch.device("cuda"))
    brought(wide, torch.device("mps"))
    brought(wide, CPU)
    assert seen == [
        ("pinned", (1, 3)),
        ("cuda", torch.float64, True),
        ("pinned", (3, 1)),
        ("cuda", torch.float32, True),
        ("mps", torch.float32, False),
        ("cpu", torch.float64, False),
    ]
