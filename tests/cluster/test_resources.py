"""What a piece takes of a cluster, by what Ray says that it has; no cluster is started."""

from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.cluster.connection import _gpus, connected
from glasshouse.cluster.pieces import Cluster, Terms, require_alike_nodes
from glasshouse.errors import UsageError


def ray_with(**resources: float) -> Any:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    return SimpleNamespace(cluster_resources=lambda: resources, nodes=lambda: nodes)


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("auto", 0, 0), ("auto", 2, 1), ("cuda", 2, 1), ("cpu", 2, 0), ("mps", 2, 0)],
)
def test_a_piece_takes_a_gpu_where_its_device_is_one(device: str, gpus: int, expected: int) -> None:
    assert _gpus(ray_with(GPU=gpus), device) == expected


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_the_number_of_a_gpu_is_refused_before_a_cluster_is_looked_for(device: str) -> None:
    with (
        pytest.raises(UsageError, match=f"use --device cuda instead of {device}"),
        connected("nowhere", device=device),
    ):
        pass


def test_cuda_needs_a_cluster_with_a_gpu() -> None:
    with pytest.raises(UsageError, match="device cuda: the cluster has no GPU"):
        _gpus(ray_with(CPU=8), "cuda")


@pytest.mark.parametrize(
    ("cpus", "available", "threads", "gpus", "places"),
    [(8, 0, 1, 0, 8), (8, 0, 3, 0, 2), (8, 2, 1, 1, 2), (1, 9, 1, 1, 1), (1, 0, 2, 0, 1)],
)
def test_as_many_pieces_run_at_the_same_time_as_cores_and_gpus_suffice_for(
    cpus: int, available: int, threads: int, gpus: int, places: int
) -> None:
    cluster = Cluster(ray_with(CPU=cpus, GPU=available), Terms({}, threads), gpus)
    assert cluster.places == places


def test_more_threads_than_any_living_node_has_cores_are_refused() -> None:
    with pytest.raises(UsageError, match=r"takes 4 cores, .* no node .* has more than 2"):
        require_alike_nodes(Cluster(ray_with(CPU=2), Terms({}, 4), 0))
