"""Hosts with addresses of their own and no shared folder, and what is left when one is cut off."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from glasshouse.storage import sha256_of_file
from tests.cluster.hosts import Host, hosts

pytestmark = pytest.mark.slow
TRAIN = (
    "train", "digits", "--recipe", "small-residual", "--epochs", "2", "--batch-size", "64",
    "--set", "data.train_limit=300", "--set", "train.shards=4", "--set", "train.threads=1",
    "--out", "run",
)  # fmt: skip
SEEDS = (*TRAIN[:-2], "--seeds", "4", "--on", "first:6379", "--out", "seeds")
TOKEN: dict[str, Any] = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.fixture
def pair() -> Iterator[Mapping[str, Host]]:
    with hosts(["first", "second"]) as found:
        yield found


@pytest.fixture
def cluster(pair: Mapping[str, Host]) -> Mapping[str, Host]:
    """The same hosts as a Ray cluster with a processor each."""
    pytest.importorskip("ray")
    start_cluster(*pair.values())
    return pair


def test_torchrun_on_two_hosts_leaves_the_bytes_of_one_process(pair: Mapping[str, Host]) -> None:
    other = pair["second"].start(*torchrun(1), *TRAIN)
    code, text = pair["first"].run(*torchrun(0), *TRAIN)
    said, _ = other.communicate(timeout=60)
    assert (code, other.returncode) == (0, 0), text + said
    assert not pair["second"].folder("run").exists()
    code, text = pair["second"].run("glasshouse", *TRAIN)
    assert code == 0, text
    assert_same_bytes(pair)


@pytest.mark.parametrize("own", ["127.0.1.1", None])
def test_hosts_whose_own_names_lead_nowhere_find_each_other(
    pair: Mapping[str, Host], own: str | None
) -> None:
    for host in pair.values():
        rename(host, own)
    address = pair["first"].address
    words = [[address if word == "first" else word for word in torchrun(rank)] for rank in (0, 1)]
    other = pair["second"].start(*words[1], *TRAIN)
    code, text = pair["first"].run(*words[0], *TRAIN)
    said, _ = other.communicate(timeout=60)
    assert (code, other.returncode) == (0, 0), text + said


def test_a_training_that_loses_a_host_ends_and_can_be_resumed(pair: Mapping[str, Host]) -> None:
    first, second = pair.values()
    for host in pair.values():
        # Half a second in place of a quarter of an hour, after which the system gives up.
        code, text = host.run("sysctl", "-w", "net.ipv4.tcp_retries2=1")
        assert code == 0, text
    many = (*TRAIN, "--epochs", "30")
    joint = [host.start(*torchrun(rank), *many) for rank, host in enumerate(pair.values())]
    await_file(joint[0], first.folder("run"), "metrics.jsonl")
    second.cut_off()
    for command in joint:
        text, _ = command.communicate(timeout=300)
        assert command.returncode != 0
        assert "another process of this training has ended" in text, text
    assert "Resume the run" in text
    code, text = first.run("glasshouse", *many, "--processes", "4", "--resume")
    assert code == 0, text
    code, text = second.run("glasshouse", *many)
    assert code == 0, text
    assert_same_bytes(pair)


def test_what_a_host_did_that_is_cut_off_is_begun_again(cluster: Mapping[str, Host]) -> None:
    first, second = cluster.values()
    command = first.start("glasshouse", *SEEDS, **TOKEN)
    await_file(command, first.folder("seeds"), "seed-*")
    second.cut_off()
    # For seven minutes, Ray waits for a sign of life.
    text, _ = command.communicate(timeout=900)
    assert command.returncode == 0, text
    assert len(list(first.folder("seeds").glob("seed-*/model.safetensors"))) == 4


def test_a_command_that_is_killed_continues_what_others_did(cluster: Mapping[str, Host]) -> None:
    first, second = cluster.values()
    # On the host without the head, which the pieces are copied back to.
    command = second.start("glasshouse", *SEEDS, **TOKEN)
    await_file(command, second.folder("seeds"), "seed-*/report.html")
    kill(command)
    done = {p: p.stat().st_mtime_ns for p in second.folder("seeds").glob("seed-*/report.html")}
    code, text = second.run("glasshouse", *SEEDS, "--resume", **TOKEN)
    assert code == 0, text
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert len(list(second.folder("seeds").glob("seed-*/model.safetensors"))) == 4
    assert not first.folder("seeds").exists()


def test_a_cluster_of_such_hosts_trains_together(pair: Mapping[str, Host]) -> None:
    pytest.importorskip("ray")
    first, second = pair.values()
    for host in pair.values():
        rename(host, "127.0.1.1")
    start_cluster(first, second)
    code, text = first.run(
        "glasshouse", *TRAIN, "--on", f"{first.address}:6379", "--processes", "2", **TOKEN
    )
    assert code == 0, text
    assert "resume" not in text


def rename(host: Host, own: str | None) -> None:
    """Let the name of a host resolve, on that host, to another address or not at all.

    Debian and Ubuntu do the former, and containers may do the latter.
    """
    table = host.folder().parent / "hosts"
    lines = table.read_text().splitlines()
    others = [line for line in lines if not line.endswith(f" {host.name}")]
    table.write_text("\n".join([*others, *([f"{own} {host.name}"] if own else []), ""]))


def start_cluster(first: Host, second: Host) -> None:
    """Start Ray with a processor on each of two hosts."""
    node = ("--num-cpus=1", "--object-store-memory=100000000")
    for host, *where in (
        (first, "--head", "--include-dashboard=false"),
        (second, f"--address={first.address}:6379"),
    ):
        address = f"--node-ip-address={host.address}"
        code, text = host.run("ray", "start", *where, address, *node, **TOKEN)
        assert code == 0, text


def torchrun(rank: int) -> tuple[str, ...]:
    """The beginning of a training's command on a host with this number, of two."""
    return (
        "torchrun", "--nnodes", "2", "--nproc-per-node", "2", "--master-addr", "first",
        "--master-port", "29500", "--node-rank", str(rank), "-m", "glasshouse",
    )  # fmt: skip


def kill(command: subprocess.Popen[str]) -> None:
    """End the command itself without notice; what was started is nsenter, its parent."""
    (child,) = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    command.communicate(timeout=60)


def await_file(command: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    """Return once a command that runs has left a file."""
    while command.poll() is None:
        if list(folder.glob(pattern)):
            return
        time.sleep(0.1)
    raise AssertionError(command.communicate()[0])


def assert_same_bytes(pair: Mapping[str, Host]) -> None:
    for name in ("model.safetensors", "predictions.safetensors"):
        both = [sha256_of_file(host.folder("run") / name) for host in pair.values()]
        assert both[0] == both[1], name
