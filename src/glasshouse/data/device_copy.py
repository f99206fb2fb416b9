"""Copies of arrays on the device of training, which no step waits for."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

# What images may take of a device's free memory: the rest is for the network.
_SHARE = 4
# Of a device that does not say how much is free.
_UNKNOWN_BYTES = 4 << 30
_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The values of an array on a device; on the CPU, a tensor that shares its memory."""
    return to_device(pinned(array, device), device)


def pinned(array: NDArray[Any], device: torch.device) -> Tensor:
    """The values of an array where a device can copy them by itself; on the CPU, where they are."""
    values = torch.from_numpy(array)
    return values.pin_memory() if device.type == "cuda" else values


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. What is pinned is copied while the caller goes on."""
    # torch keeps pinned memory until the device has read it, so that it may be dropped at once.
    return values.to(device, non_blocking=values.is_cpu and device.type == "cuda")


def brought(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of anybody's on a device, copied from pinned memory where a device can do that."""
    if device.type == "cuda" and values.is_cpu:
        # Where values share memory, as those of a channel that is repeated, it cannot be pinned.
        values = (values.contiguous() if 0 in values.stride() else values).pin_memory()
    if device.type == "mps" and values.dtype == torch.float64:
        values = values.float()  # the widest that MPS has
    return to_device(values, device)


def room_on(device: torch.device) -> int:
    """How many bytes of images may stay on a device: a quarter of what is free there now."""
    if device.type != "cuda":
        return _UNKNOWN_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds for later use is free as well.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + held) // _SHARE


def read_ahead(
    read: Callable[[_Request], _Result], requests: Iterable[_Request]
) -> Generator[_Result, None, None]:
    """The result of each request, in order; a thread reads the next while one is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        pending: Future[_Result] | None = None
        for request in requests:
            before, pending = pending, thread.submit(read, request)
            if before is not None:
                yield before.result()
        if pending is not None:
            yield pending.result()
