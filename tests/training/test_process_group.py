"""What a process has left of its group when the training has ended."""

import subprocess
import sys

import pytest

from glasshouse.child_python import child_environment

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
