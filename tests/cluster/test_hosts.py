"""Hosts with addresses of their own and no shared folder: one training, and one that is cut off."""

import time
from collections.abc import Iterator, Mapping
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


@pytest.fixture
def pair() -> Iterator[Mapping[str, Host]]:
    with hosts(["first", "second"]) as found:
        yield found


def test_torchrun_on_two_hosts_leaves_the_bytes_of_one_process(pair: Mapping[str, Host]) -> None:
    launch = ("torchrun", "--nnodes", "2", "--nproc-per-node", "2", "--master-addr", "first",
              "--master-port", "29500", "--node-rank")  # fmt: skip
    other = pair["second"].start(*launch, "1", "-m", "glasshouse", *TRAIN)
    code, text = pair["first"].run(*launch, "0", "-m", "glasshouse", *TRAIN)
    said, _ = other.communicate(timeout=60)
    assert (code, other.returncode) == (0, 0), text + said
    assert not pair["second"].folder("run").exists()
    code, text = pair["second"].run("glasshouse", *TRAIN)
    assert code == 0, text
    for name in ("model.safetensors", "predictions.safetensors"):
        both = [sha256_of_file(host.folder("run") / name) for host in pair.values()]
        assert both[0] == both[1], name


def test_what_a_host_did_that_is_cut_off_is_begun_again(pair: Mapping[str, Host]) -> None:
    pytest.importorskip("ray")
    first, second = pair.values()
    token: dict[str, Any] = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    node = ("--num-cpus=1", "--object-store-memory=100000000")
    for host, *where in (
        (first, "--head", "--include-dashboard=false"),
        (second, "--address=first:6379"),
    ):
        code, text = host.run("ray", "start", *where, *node, **token)
        assert code == 0, text
    seeds = (*TRAIN[:-2], "--seeds", "4", "--on", "first:6379", "--out", "seeds")
    command = first.start("glasshouse", *seeds, **token)
    while command.poll() is None and not list(first.folder("seeds").glob("seed-*")):
        time.sleep(0.2)
    second.cut_off()
    # For seven minutes, Ray waits for a sign of life.
    text, _ = command.communicate(timeout=900)
    assert command.returncode == 0, text
    assert len(list(first.folder("seeds").glob("seed-*/model.safetensors"))) == 4
