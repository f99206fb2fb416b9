"""What a process has left of its group when the training has ended."""

import subprocess
import sys

import pytest
import torch

from glasshouse.child_python import child_environment
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


@pytest.mark.parametrize(
    ("group", "device", "steps"),
    [
        (ALONE, "cpu", 0),
        (ALONE, "cuda", 0),
        (ProcessGroup(0, 2), "cpu", 1),
        (ProcessGroup(1, 2), "cuda", 16),
        (ProcessGroup(3, 4), "cpu", 1),
    ],
)
def test_results_are_read_at_once_on_processors_and_now_and_then_on_gpus(
    group: ProcessGroup, device: str, steps: int
) -> None:
    assert group.reads_every(torch.device(device)) == steps


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
