"""What a process has left of its group when the training has ended."""

import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import distributed

from glasshouse.child_python import child_environment
from glasshouse.errors import GlasshouseWarning, LostProcess, ProcessError, UsageError
from glasshouse.training import process_group
from glasshouse.training.process_group import ALONE, ProcessGroup

# One process alone, as the threads belong to the connection and not to what it connects.
JOIN_AND_LEAVE = """
import os
import torch
from torch import distributed
from glasshouse.training.process_group import _start

_start()
torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
distributed.barrier()


def threads_of_gloo():
    tasks = os.listdir("/proc/self/task")
    return sum("gloo" in open(f"/proc/self/task/{task}/comm").read() for task in tasks)

assert threads_of_gloo()
distributed.destroy_process_group()
print(threads_of_gloo(), "left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    # One that frees a tensor while Python ends would abort a process whose work is done.
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", JOIN_AND_LEAVE], env={**child_environment(), **place},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "0 left\n"


def test_the_shards_of_a_batch_are_dealt_in_order_and_all_of_them() -> None:
    for size in (1, 2, 4):
        shares = [ProcessGroup(rank, size).share_of(8) for rank in range(size)]
        assert [shard for share in shares for shard in share] == list(range(8))
        assert {len(share) for share in shares} == {8 // size}
        assert [ProcessGroup(rank, size).is_first for rank in range(size)] == [
            rank == 0 for rank in range(size)
        ]


def test_a_process_alone_exchanges_nothing() -> None:
    given = torch.arange(3.0)
    assert ALONE.told("value") == "value"
    assert ALONE.gather("value") == ["value"]
    assert ALONE.highest(7) == 7
    assert ALONE.sum(given) is given
    assert ALONE.deal(lambda item: item * 2, [1, 2, 3]) == [2, 4, 6]


class Partners:
    """Processes of one group that run in turns, and what each has sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Any] = []
        monkeypatch.setattr(distributed, "all_gather_object", self.gather)
        self.others: list[Any] = []

    def gather(self, values: list[Any], own: Any, group: object) -> None:
        self.sent.append(own)
        values[:] = [own, *self.others]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 7])
def test_work_is_dealt_out_like_cards_and_put_back_in_order(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    items = list(range(count))
    partners = Partners(monkeypatch)
    for rank in (2, 1):
        ProcessGroup(rank, 3).gather([item * 10 for item in items[rank::3]])
    partners.others = partners.sent[::-1]
    done: list[int] = []

    def work(item: int) -> int:
        done.append(item)
        return item * 10

    assert ProcessGroup(0, 3).deal(work, items) == [item * 10 for item in items]
    assert done == items[::3]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_sum_over_processes_is_a_binary_tree_and_the_same_in_all(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    # Of these numbers, the result shows in which order they were added.
    numbers = [torch.tensor([1.0 + rank * 1e-7, 2.0**24 if rank == 1 else 1.0])
               for rank in range(size)]  # fmt: skip
    values = [each.clone() for each in numbers]
    asked: list[tuple[int, int]] = []
    distance = 1
    while distance < size:
        before = [each.clone() for each in values]
        for rank in range(size):
            values[rank] = before[rank] + before[rank ^ distance]
        distance *= 2

    def exchanged(own: torch.Tensor, partner: int) -> torch.Tensor:
        asked.append((rank, partner))
        # What the partner has by now: the sum of its own subtree.
        width = rank ^ partner
        tree = [numbers[i].clone() for i in range(size)]
        step = 1
        while step < width:
            tree = [tree[i] + tree[i ^ step] for i in range(size)]
            step *= 2
        return tree[partner]

    monkeypatch.setattr(process_group, "_sent", exchanged)
    for rank in range(size):
        found = ProcessGroup(rank, size).sum(numbers[rank].clone())
        assert torch.equal(found, values[rank]) and torch.equal(found, values[0])
    steps = size.bit_length() - 1
    assert asked == [(rank, rank ^ 2**step) for rank in range(size) for step in range(steps)]


@pytest.mark.parametrize(
    ("processes", "shards", "message"),
    [
        (3, 6, "3 processes cannot share the shards of a batch: expected a power of two, such as "
         "2 or 4"),
        (5, 5, "5 processes cannot share the shards of a batch: expected a power of two, such as "
         "4 or 8"),
        (9, 8, "9 processes cannot share the shards of a batch: expected a power of two, such as "
         "8 or 16"),
        (4, 2, "4 processes cannot share train.shards = 2: expected a number of shards that they "
         "divide. Add --set train.shards=4; it is part of the recipe, and any number of processes "
         "up to it then gives the same bytes."),
    ],
)  # fmt: skip
def test_numbers_of_processes_that_do_not_fit_are_refused_with_those_that_do(
    processes: int, shards: int, message: str
) -> None:
    for check in (
        lambda: process_group.require_processes_fit(processes, shards),
        lambda: ProcessGroup(0, processes).share_of(shards),
    ):
        with pytest.raises(UsageError) as refused:
            check()
        assert str(refused.value) == message
    process_group.require_processes_fit(1, shards)


PLACE = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("missing", [None, *PLACE])
def test_a_launcher_says_how_many_there_are_and_which_this_is(
    monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    for name, value in PLACE.items():
        if name == missing:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    expected = (4, 3) if missing is None else (1, 0)
    assert (process_group.launched_size(), process_group.launched_rank()) == expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("EADDRINUSE here", "the port of node1:29500 is in use: choose another one, MASTER_PORT "
         "or --master-port"),
        ("the address is already in use\nat line 9", "the port of node1:29500 is in use: choose "
         "another one, MASTER_PORT or --master-port"),
        ("timed out\nat line 9", "process 3 of 4 could not connect to the others at node1:29500: "
         "timed out. Check the address, the port and the firewall. Set GLOO_SOCKET_IFNAME, for "
         "example to eth0, to choose the network interface."),
    ],
)  # fmt: skip
def test_why_there_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, error: str, words: str
) -> None:
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    assert process_group._why_not_connected(RuntimeError(error)) == words


@pytest.mark.parametrize("error", [RuntimeError("gone"), EOFError()])
def test_a_process_that_has_ended_is_an_error_of_every_exchange(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("all_gather_object", "broadcast_object_list", "all_reduce"):
        monkeypatch.setattr(distributed, name, fail)
    monkeypatch.setattr(process_group, "_sent", fail)
    group = ProcessGroup(0, 2)
    for exchange in (
        lambda: group.sum(torch.ones(1)), lambda: group.gather(1), lambda: group.told(1),
        lambda: group.highest(1),
    ):  # fmt: skip
        with pytest.raises(ProcessError, match=r"another process .* has ended.*what was saved is"):
            exchange()


def test_two_processes_send_and_receive_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, sent = torch.tensor([5.0, 6.0]), []

    class Request:
        def __init__(self, values: torch.Tensor) -> None:
            self.values = values

        def wait(self) -> None:
            # What is received is there only after the wait.
            self.values.copy_(theirs)

    def both(operations: list[Any]) -> list[Request]:
        (send, own, *there), (receive, other, *here) = operations
        assert (send, receive) == (distributed.isend, distributed.irecv)
        assert there == here == [3, "link"]
        sent.append(own.clone())
        return [Request(torch.empty(2)), Request(other)]

    monkeypatch.setattr(process_group, "_links", [None, "link"])
    monkeypatch.setattr(distributed, "P2POp", lambda *parts: parts)
    monkeypatch.setattr(distributed, "batch_isend_irecv", both)
    mine = torch.tensor([1.0, 2.0])
    assert torch.equal(process_group._sent(mine, 3), theirs)
    assert torch.equal(sent[0], mine) and mine.tolist() == [1, 2]


def test_the_highest_number_and_what_the_first_process_says_are_exchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reduced(found: torch.Tensor, op: Any, group: object) -> None:
        assert (op, group) == (distributed.ReduceOp.MAX, "link")
        found.fill_(max(int(found), 9))

    def told(values: list[Any], src: int, group: object, device: torch.device) -> None:
        assert (src, group, device) == (0, "link", torch.device("cpu"))
        values[0] = "said by the first"

    monkeypatch.setattr(distributed, "all_reduce", reduced)
    monkeypatch.setattr(distributed, "broadcast_object_list", told)
    monkeypatch.setattr(process_group, "_links", [None, "link"])
    group = ProcessGroup(1, 2)
    assert (group.highest(7), group.highest(12)) == (9, 12)
    assert group.told("mine") == "said by the first"


def test_a_process_without_a_launcher_is_in_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group.joined() as group:
        assert group is ALONE and process_group.current_group() is ALONE


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_is_in_its_group_until_it_leaves(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    calls: list[str] = []
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    for name in ("_require_distributed", "_end_with_launcher", "_start"):
        monkeypatch.setattr(process_group, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(distributed, "new_group", lambda timeout: ("linked", timeout))
    monkeypatch.setattr(distributed, "get_rank", lambda: 3)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: calls.append("left"))
    with pytest.raises(KeyError) if fails else nullcontext(), process_group.joined() as group:
        assert group == process_group.current_group() == ProcessGroup(3, 4)
        assert process_group._links == [None, ("linked", timedelta(days=1))]
        if fails:
            raise KeyError
    assert process_group.current_group() is ALONE
    assert process_group._links == [None]
    # After an error, others may be waiting, and this process ends anyway.
    left = [] if fails else ["left"]
    assert calls == ["_require_distributed", "_end_with_launcher", "_start", *left]


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("has_nccl", [False, True])
def test_processes_talk_by_gloo_and_gpus_by_nccl(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, has_nccl: bool
) -> None:
    found: dict[str, Any] = {}

    def begun(backend: str, timeout: timedelta) -> None:
        found["how"] = backend, timeout

    for name, value in (PLACE | {"LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: found.update(gpu=number))
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: has_nccl)
    monkeypatch.setattr(distributed, "init_process_group", begun)
    process_group._start()
    if has_gpu and has_nccl:
        assert found == {"how": ("cpu:gloo,cuda:nccl", timedelta(minutes=30)), "gpu": 2}
    else:
        assert found == {"how": ("gloo", timedelta(minutes=30))}


def test_a_torch_without_distributed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    process_group._require_distributed()
    monkeypatch.setattr(distributed, "is_available", lambda: False)
    with pytest.raises(UsageError, match="cannot train in several processes"):
        process_group._require_distributed()


@pytest.mark.parametrize("last", [1, 99])
def test_a_process_ends_when_another_has_become_its_parent(
    monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    parents, slept, started = iter([50, 50, 50, last]), list[float](), list[Any]()

    class Thread:
        def __init__(self, target: Any, daemon: bool) -> None:
            assert daemon
            self.start = lambda: started.append(target)

    def ended(code: int) -> None:
        assert code == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Thread", Thread)
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("os.getppid", lambda: next(parents))
    monkeypatch.setattr("os._exit", ended)
    process_group._end_with_launcher()
    with pytest.raises(KeyboardInterrupt):
        started[0]()
    assert slept == [0.2, 0.2]


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_what_keeps_processes_from_connecting_is_said(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    for name, value in (("MASTER_ADDR", "here"), ("MASTER_PORT", "7"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")

    def refuse(*_: object, **options: object) -> None:
        assert options == {"timeout": process_group.CONNECTED_WITHIN}
        raise kind("no route\nand more")

    monkeypatch.setattr("torch.distributed.init_process_group", refuse)
    with pytest.raises(UsageError, match=r"process 1 of 2 .* at here:7: no route\. Check"):
        process_group._start()


@pytest.mark.parametrize(("here", "chosen"), [("4", []), ("2", ["node0"]), (None, ["node0"])])
def test_an_interface_is_chosen_for_processes_of_several_machines(
    monkeypatch: pytest.MonkeyPatch, here: str | None, chosen: list[str]
) -> None:
    for name, value in (PLACE | {"WORLD_SIZE": "4", "MASTER_ADDR": "node0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    asked: list[str] = []
    monkeypatch.setattr(process_group, "choose_interface", asked.append)
    monkeypatch.setattr(distributed, "init_process_group", lambda *_, **__: None)
    process_group._start()
    assert asked == chosen


@pytest.mark.parametrize(
    ("here", "rank", "seconds", "are_several"),
    [
        ("4", "0", 0.01, False),
        ("2", "0", 0.01, True),
        ("2", "1", 0.01, None),
        ("2", "0", 600, None),
    ],
)
def test_one_of_each_machine_that_waits_for_others_says_what_for(
    monkeypatch: pytest.MonkeyPatch,
    here: str,
    rank: str,
    seconds: float,
    are_several: bool | None,
) -> None:
    for name, value in (PLACE | {"LOCAL_WORLD_SIZE": here, "LOCAL_RANK": rank}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process_group, "_WARNED_AFTER_S", seconds)
    monkeypatch.setattr(process_group, "choose_interface", lambda towards: None)
    warned, said = threading.Event(), list[str]()

    def warn(text: object, kind: type[Warning] = UserWarning, **_: object) -> None:
        if kind is GlasshouseWarning:
            said.append(str(text))
            warned.set()

    monkeypatch.setattr("warnings.warn", warn)

    def connect(*_: object, **__: object) -> None:
        assert warned.wait(60 if are_several is not None else 0.2) != (are_several is None)

    monkeypatch.setattr(distributed, "init_process_group", connect)
    process_group._start()
    assert len(said) == (are_several is not None)
    for text in said:
        assert "waiting for 4 processes to connect at node1:29500, for at most 30 minutes." in text
        assert ("GLOO_SOCKET_IFNAME" in text) == are_several


def test_a_process_that_is_lost_while_the_last_connect_is_an_error_of_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(timeout: timedelta) -> None:
        raise RuntimeError("Connection reset by peer")

    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process_group, "_end_with_launcher", lambda: None)
    monkeypatch.setattr(process_group, "_start", lambda: None)
    monkeypatch.setattr(distributed, "new_group", fail)
    with (
        pytest.raises(LostProcess, match=r"continue \(Connection reset by peer\)\. Resume"),
        process_group.joined(),
    ):
        pass
    assert process_group._links == [None]


PATIENT = """
import os, sys, time
from datetime import timedelta
from glasshouse.training import process_group

def threads_of_gloo():
    tasks = os.listdir("/proc/self/task")
    return sum("gloo" in open(f"/proc/self/task/{task}/comm").read() for task in tasks)

process_group.CONNECTED_WITHIN = timedelta(seconds=20)  # in which both have to begin
with process_group.joined() as group:
    time.sleep(25 * group.rank)  # reading its images
    print(group.gather(group.rank), threads_of_gloo() > 0)
# What still knows the group keeps none of its threads.
print(group.memory is not None, threads_of_gloo())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_process_that_is_connected_may_take_longer_than_connecting() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        place["MASTER_PORT"] = str(free.getsockname()[1])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PATIENT], env={**child_environment(), **place, "RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    for found, errors in [process.communicate(timeout=300) for process in both]:
        assert found == "[0, 1] True\nTrue 0\n", errors


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Connection closed by peer.\nand more"), "Connection closed by peer"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_lost_process_is_told_with_what_torch_says(error: Exception, reason: str) -> None:
    with pytest.raises(LostProcess) as lost, process_group._connected():
        raise error
    assert str(lost.value) == (
        f"another process of this training has ended, so that this one cannot continue ({reason}). "
        "Resume the run, with any number of processes; what was saved is kept."
    )


def test_a_gpu_whose_memory_is_full_is_no_lost_process() -> None:
    with pytest.raises(torch.OutOfMemoryError), process_group._connected():
        raise torch.OutOfMemoryError("CUDA out of memory.")
