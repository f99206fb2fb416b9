"""One run trained by processes on two nodes: the bytes of one process, also of a lost node."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.cluster.connection import connected
from glasshouse.cluster.pieces import Cluster
from glasshouse.errors import DataError, Interrupted
from glasshouse.recipe import load_recipe
from glasshouse.storage import sha256_of_file
from glasshouse.training.state import Epoch
from glasshouse.workflow.compare.seeds import run_quietly
from glasshouse.workflow.train import joint_training
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.joint_training import train_together
from tests.cluster.nodes import STORE_BYTES, address_of, two_nodes
from tests.cluster.test_runs_on_nodes import nothing_shared, result_files

# What Ray says of itself.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SMALL = (
    "data.train_limit=400", "train.epochs=4", "train.batch_size=64", "train.shards=4",
    "train.device=cpu", "train.precision=fp32", "train.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_nodes() as found:
        pytest.importorskip("ray.train.torch")
        yield found


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> Iterator[Cluster]:
    with connected(address_of(nodes)) as found:
        yield found


def request(out: Path, epochs: int = 4) -> TrainRequest:
    recipe = load_recipe("small-residual", [*SMALL, f"train.epochs={epochs}"])
    return TrainRequest("digits", recipe, out, offline=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("local") / "run"
    run_quietly(request(out))
    return out


@pytest.mark.parametrize("is_shared", [True, False])
def test_two_nodes_leave_the_files_of_one_process(
    cluster: Cluster, local: Path, tmp_path: Path, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_shared:
        monkeypatch.setattr(joint_training, "marked", nothing_shared)
    out, lines = tmp_path / "run", list[str]()
    records = list(train_together(cluster, 2, request(out), say=lines.append))
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [1, 2, 3, 4]
    ours, theirs = result_files(local), result_files(out)
    assert ours.keys() == theirs.keys() and len(ours) > 5
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_signal_saves_and_another_number_of_processes_resumes(
    cluster: Cluster, local: Path, tmp_path: Path
) -> None:
    received: list[int] = []
    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="everything is saved"):
        for record in train_together(
            cluster, 2, request(out), signal_received=lambda: received[0] if received else None
        ):
            if isinstance(record, Epoch):
                received.append(15)
    assert not (out / "model.safetensors").exists()
    list(train_together(cluster, 1, request(out)))
    assert sha256_of_file(out / "model.safetensors") == sha256_of_file(local / "model.safetensors")


def test_an_error_of_a_process_is_raised_as_it_is_here(cluster: Cluster, tmp_path: Path) -> None:
    missing = replace(request(tmp_path / "run"), source=str(tmp_path / "none"))
    with pytest.raises(DataError, match="none"):
        list(train_together(cluster, 2, missing))
    assert not missing.out.exists()


def test_a_lost_node_costs_nothing_but_time(nodes: Any, cluster: Cluster, tmp_path: Path) -> None:
    extra = nodes.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    out, lines, asked = tmp_path / "run", list[str](), request(tmp_path / "run", epochs=12)

    def lose_node() -> None:
        while not (out / "metrics.jsonl").exists():
            time.sleep(0.05)
        nodes.remove_node(extra, allow_graceful=False)

    thread = threading.Thread(target=lose_node)
    thread.start()
    records = list(train_together(cluster, 4, asked, say=lines.append))
    thread.join()
    assert any("resume" in line for line in lines)
    assert {r.epoch for r in records if isinstance(r, Epoch)} == set(range(1, 13))
    alone = replace(asked, out=tmp_path / "alone")
    run_quietly(alone)
    names = [path / "model.safetensors" for path in (out, alone.out)]
    assert sha256_of_file(names[0]) == sha256_of_file(names[1])
