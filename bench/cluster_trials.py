"""A search of twelve trials on a Ray cluster of two nodes, compared with one node.

    python bench/cluster_trials.py [--rounds 3]

Each node is a process of this machine that offers one core, so the machine needs two. Claim: twelve
trials on two nodes are at least 1.7 times as fast as on one, whatever starting costs; every trial
ends once. Needs the extras `ray` and `tune`; reads the digits that come with scikit-learn.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contest import judge_rounds, machine, ratios

TRIALS, STORE_BYTES = 12, 100_000_000


@contextmanager
def cluster_of_two() -> Iterator[str]:
    """The address of a cluster of two nodes of one core each."""
    # Ray reads them when it is imported.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    nodes: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        yield f"127.0.0.1:{nodes.address.rpartition(':')[2]}"
    finally:
        nodes.shutdown()


def search_seconds(cluster: Any, nodes: int, out: Path, trials: int = TRIALS) -> float:
    """How long a search takes on this many nodes."""
    from glasshouse.workflow.tune.remote_crew import ClusterCrew
    from glasshouse.workflow.tune.space import parse_search
    from glasshouse.workflow.tune.tune import Search, search_with

    settings = ("train.epochs=60", "train.device=cpu", "train.precision=fp32", "train.threads=1")
    space = (parse_search("train.lr=1e-4..1e-1:log"),)
    search = Search(
        "digits", "small-cnn", space, out, overrides=settings, trials=trials, prune=False,
        offline=True,
    )  # fmt: skip
    marker = out.parent / "marker"
    marker.write_text("shared", encoding="utf-8")
    started = time.perf_counter()
    found = search_with(ClusterCrew(cluster, (marker, "shared"), size=nodes), search)
    seconds = time.perf_counter() - started
    ended = [trial.number for trial in found.trials if trial.state == "complete"]
    if sorted(ended) != list(range(trials)):
        raise SystemExit(f"expected {trials} trials that end once, found {ended}")
    return seconds


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    from glasshouse.cluster.connection import connected

    print(machine())
    found: dict[int, list[float]] = {1: [], 2: []}
    with (
        tempfile.TemporaryDirectory() as place,
        cluster_of_two() as address,
        connected(address) as cluster,
    ):
        # Both nodes import torch.
        search_seconds(cluster, 2, Path(place) / "warm", trials=2)
        for turn in range(rounds):
            for nodes, times in found.items():
                times.append(search_seconds(cluster, nodes, Path(place) / f"{turn}-{nodes}"))
                print(f"  round {turn + 1}/{rounds}  {nodes} nodes  {times[-1]:.1f} s", flush=True)
    claim = "twelve trials on two nodes compared with one"
    return judge_rounds(claim, ratios(found[1], found[2]), 1.7)


if __name__ == "__main__":
    sys.exit(not main())
