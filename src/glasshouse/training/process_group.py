"""The processes of one training, and everything that they exchange, through torch.distributed.

Each runs the same training and computes its part of every batch, of the validation images and of
the final predictions. The first one alone writes.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from glasshouse.errors import GlasshouseWarning, LostProcess, UsageError
from glasshouse.network_interface import VARIABLE, choose_interface
from glasshouse.training.shared_memory import SharedMemory

_Value = TypeVar("_Value")
_Item = TypeVar("_Item")

# For all processes to connect; afterwards, reading many images may take hours, and one that has
# ended is noticed at once all the same.
CONNECTED_WITHIN, PATIENCE = timedelta(minutes=30), timedelta(days=1)
_WARNED_AFTER_S = 20.0
_ADVICE = f"Set {VARIABLE}, for example to eth0, to choose the network interface."
# What torchrun, and every other launcher, tells its processes.
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class ProcessGroup:
    """The number of this process, counted from 0, and how many there are.

    memory: what it shares with those on the same machine.
    """

    rank: int = 0
    size: int = 1
    memory: SharedMemory | None = field(default=None, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share_of(self, shards: int) -> range:
        """The shards of this process; raises UsageError unless each process gets as many."""
        require_processes_fit(self.size, shards)
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def place(self, count: int) -> Tensor | None:
        """Memory for this many float32 numbers that are summed next, if it saves a copy of them."""
        return None if self.memory is None else self.memory.place(count)

    def sum(self, own: Tensor, *, changes: bool = True) -> Tensor:
        """The sum of a tensor over all processes, in a tree: the same bytes in each of them.

        The tensor itself may be used up. changes: whether the caller changes the sum, or needs it
        after it has begun the next one; otherwise it may be memory that other processes read too.
        """
        with _connected():
            near = 1 if self.memory is None else self.memory.begin(own)
            if self.memory is None or near == 1:
                return self._added(own, 1)
            # Each process sums a part of it over this machine, and then over the others.
            part = self.memory.sum_part(own)
            if part.numel():
                self._added(part, near)
            total = self.memory.gather_parts(own)
            return total.clone() if changes else total

    def _added(self, own: Tensor, distance: int) -> Tensor:
        """Add the levels of the tree whose partners are at least that far away, in place."""
        while distance < self.size:
            # Both sides add the same two numbers, and a + b is b + a to the last bit.
            own.add_(_sent(own, self.rank ^ distance))
            distance *= 2
        return own

    def deal(self, work: Callable[[_Item], _Value], items: Sequence[_Item]) -> list[_Value]:
        """The result of some work on each item, in order; each process does some of it."""
        own = [work(item) for item in items[self.rank :: self.size]]
        dealt = self.gather(own)
        return [dealt[i % self.size][i // self.size] for i in range(len(items))]

    def gather(self, value: _Value) -> list[_Value]:
        """The values of all processes, in order."""
        if self.size == 1:
            return [value]
        values: list[_Value | None] = [None] * self.size
        with _connected():
            distributed.all_gather_object(values, value, group=_links[-1])
        return values  # type: ignore[return-value]

    def told(self, value: _Value) -> _Value:
        """The value of the first process."""
        if self.size == 1:
            return value
        values = [value]
        with _connected():
            cpu = torch.device("cpu")
            distributed.broadcast_object_list(values, src=0, group=_links[-1], device=cpu)
        return values[0]

    def highest(self, number: int) -> int:
        """The highest of the numbers of all processes."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        with _connected():
            distributed.all_reduce(found, op=distributed.ReduceOp.MAX, group=_links[-1])
        return int(found)


ALONE = ProcessGroup()
_joined = [ALONE]
# torch's groups of all processes: its default one, and those that wait for as long as PATIENCE.
# Nothing else may keep one, whose threads would outlive the connection.
_links: list[Any] = [None]


def current_group() -> ProcessGroup:
    """The group that this process has joined; without one, it is alone."""
    return _joined[-1]


def launched_size() -> int:
    """How many processes the launcher of this one has started; 1 without a launcher."""
    is_launched = all(name in os.environ for name in _LAUNCHED)
    return int(os.environ["WORLD_SIZE"]) if is_launched else 1


def launched_rank() -> int:
    """The number of this process among those that were launched together."""
    return int(os.environ["RANK"]) if launched_size() > 1 else 0


def require_processes_fit(processes: int, shards: int) -> None:
    """Raise UsageError unless the shards of a batch can be shared out to these processes."""
    if processes == 1 or (processes & (processes - 1) == 0 and shards % processes == 0):
        return
    power = 1 << max(1, (processes - 1).bit_length())
    if processes & (processes - 1):
        raise UsageError(
            f"{processes} processes cannot share the shards of a batch: expected a power of two, "
            f"such as {power // 2} or {power}"
        )
    raise UsageError(
        f"{processes} processes cannot share train.shards = {shards}: expected a number of shards "
        f"that they divide. Add --set train.shards={processes}; it is part of the recipe, and any "
        f"number of processes up to it then gives the same bytes."
    )


def require_shareable_device(device: torch.device) -> None:
    """Raise UsageError for a device on which several processes cannot train together."""
    if device.type == "mps":
        raise UsageError(
            "several processes cannot train together on MPS, the only GPU of a Mac: add "
            "--device cpu, or use one process"
        )


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """A context in which this process is in the group that its launcher describes.

    A launcher may have connected the processes already, as Ray does, and then ends their group.
    Raises UsageError where that is not possible.
    """
    if launched_size() == 1:
        yield ALONE
        return
    _require_distributed()
    is_connected = distributed.is_initialized()
    if not is_connected:
        _end_with_launcher()
        _start()
    with _connected():
        _links.append(distributed.new_group(timeout=PATIENCE))
    try:
        _joined.append(_group())
        yield current_group()
    finally:
        del _joined[1:], _links[1:]
    # Not after an error, when others may be waiting: this process then ends anyway.
    if not is_connected:
        distributed.destroy_process_group()


def _group() -> ProcessGroup:
    plain = ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    return replace(plain, memory=SharedMemory(plain.rank, plain.gather))


def backend_for(*, has_gpus: bool) -> str:
    """What connects processes: gloo between CPUs, and nccl between GPUs."""
    return "cpu:gloo,cuda:nccl" if has_gpus else "gloo"


def _require_distributed() -> None:
    if not distributed.is_available():
        raise UsageError(
            "this build of torch cannot train in several processes: install one with "
            "torch.distributed, or use one process"
        )


def _start() -> None:
    """Connect to the other processes."""
    # Its functions have the group of that moment as a default. Imported later, as torch's
    # optimizers do, they would keep the group and its threads beyond destroy_process_group, and a
    # thread that frees a tensor while Python ends aborts the process.
    import torch.distributed.nn

    has_gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if _has_other_machines():
        choose_interface(os.environ["MASTER_ADDR"])
    waiting = threading.Timer(_WARNED_AFTER_S, _warn_of_waiting)
    waiting.daemon = True
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine
        waiting.start()
    try:
        distributed.init_process_group(backend_for(has_gpus=has_gpus), timeout=CONNECTED_WITHIN)
    except (RuntimeError, ValueError) as error:
        raise UsageError(_why_not_connected(error)) from error
    finally:
        waiting.cancel()


def _has_other_machines() -> bool:
    return os.environ.get("LOCAL_WORLD_SIZE") != os.environ["WORLD_SIZE"]


def _warn_of_waiting() -> None:
    minutes = CONNECTED_WITHIN.total_seconds() / 60
    advice = f" Every machine must reach the others at any port. {_ADVICE}"
    warnings.warn(
        f"waiting for {os.environ['WORLD_SIZE']} processes to connect at {_meeting_point()}, for "
        f"at most {minutes:.0f} minutes.{advice if _has_other_machines() else ''}",
        GlasshouseWarning,
        stacklevel=1,
    )


def _meeting_point() -> str:
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _why_not_connected(error: Exception) -> str:
    where = _meeting_point()
    reason = str(error).splitlines()[0].rstrip(".")
    if "EADDRINUSE" in str(error) or "in use" in str(error):
        return f"the port of {where} is in use: choose another one, MASTER_PORT or --master-port"
    return (
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not connect to the "
        f"others at {where}: {reason}. Check the address, the port and the firewall. {_ADVICE}"
    )


def _end_with_launcher() -> None:
    """End this process once the one that launched it has gone, whichever way."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sent(own: Tensor, partner: int) -> Tensor:
    """The tensor of another process, which receives ours, through torch.distributed."""
    other = torch.empty_like(own)
    both = [
        distributed.P2POp(distributed.isend, own, partner, _links[-1]),
        distributed.P2POp(distributed.irecv, other, partner, _links[-1]),
    ]
    for request in distributed.batch_isend_irecv(both):
        request.wait()
    return other


@contextmanager
def _connected() -> Iterator[None]:
    """Raise LostProcess where a process cannot be reached any more."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # of this process
    except (RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise LostProcess(
            "another process of this training has ended, so that this one cannot continue "
            f"({reason}). Resume the run, with any number of processes; what was saved is kept."
        ) from error
