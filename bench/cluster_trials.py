"""A search of twelve trials on a Ray cluster of two nodes: how fast, and what a lost node costs.

    python bench/cluster_trials.py [--rounds 3]

Each node is a process of this machine that offers one core, so the machine needs two. Claims:
twelve trials on two nodes are at least 1.7 times as fast as on one, whatever starting costs; every
trial ends once. What two processes gain without Ray is printed beside it, since cores that share
their memory and their power do not give two times as much. Where a node is killed after four
trials, all twelve finish, none is twice in the table of the search, and each has the metrics of
the same configuration in a local search.
`--rounds 0` shows only the latter. Needs the extras `ray` and `tune`; reads the digits that come
with scikit-learn.
"""

import argparse
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from contest import interval, judge, judge_rounds, machine, ratios, require

if TYPE_CHECKING:
    from glasshouse.report.tuning_plots import TrialRecord
    from glasshouse.workflow.tune.crew import Crew
    from glasshouse.workflow.tune.tune import Search

TRIALS, STORE_BYTES, RATE = 12, 100_000_000, "train.lr"
# The search that loses a node, after some of its trials, has short ones.
EPOCHS, SHORT_EPOCHS, LOST_AFTER = 60, 20, 4
MEASURED = ("seconds", "images_per_second")


@contextmanager
def cluster_of(head: int, *workers: int) -> Iterator[Any]:
    """A cluster of nodes with these numbers of cores."""
    # Ray reads them when it is imported.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"object_store_memory": STORE_BYTES}
    first = {**node, "num_cpus": head, "include_dashboard": False}
    nodes: Any = Cluster(initialize_head=True, head_node_args=first)
    try:
        for cores in workers:
            nodes.add_node(**node, num_cpus=cores)
        nodes.wait_for_nodes()
        yield nodes
    finally:
        nodes.shutdown()


def address_of(nodes: Any) -> str:
    return f"127.0.0.1:{nodes.address.rpartition(':')[2]}"


def search_in(out: Path, trials: int = TRIALS, epochs: int = EPOCHS) -> "Search":
    from glasshouse.workflow.tune.space import parse_search
    from glasshouse.workflow.tune.tune import Search

    settings = (
        f"train.epochs={epochs}", "train.device=cpu", "train.precision=fp32", "train.threads=1",
    )  # fmt: skip
    return Search(
        "digits", "small-cnn", (parse_search(f"{RATE}=1e-4..1e-1:log"),), out,
        overrides=settings, trials=trials, prune=False, offline=True,
    )  # fmt: skip


def crew_of(cluster: Any, nodes: int, out: Path) -> Any:
    from glasshouse.workflow.tune.remote_crew import ClusterCrew

    marker = out.parent / "marker"
    marker.write_text("shared", encoding="utf-8")
    return ClusterCrew(cluster, (marker, "shared"), size=nodes)


def search_seconds(crew: "Crew", out: Path, trials: int = TRIALS) -> float:
    """How long a search takes with this crew."""
    from glasshouse.workflow.tune.tune import search_with

    started = time.perf_counter()
    found = search_with(crew, search_in(out, trials))
    seconds = time.perf_counter() - started
    ended = [trial.number for trial in found.trials if trial.state == "complete"]
    if sorted(ended) != list(range(trials)):
        raise SystemExit(f"expected {trials} trials that end once, found {ended}")
    return seconds


def two_are_faster(place: Path, rounds: int) -> bool:
    """Whether two nodes are fast enough, compared with one."""
    from glasshouse.cluster.connection import connected
    from glasshouse.workflow.tune.crew import ProcessCrew

    with cluster_of(1, 1) as nodes, connected(address_of(nodes)) as cluster:
        two = crew_of(cluster, 2, place / "warm")
        # Both nodes import torch.
        search_seconds(two, place / "warm", trials=2)
        crews: dict[str, Crew] = {
            "1 process": ProcessCrew(1),
            "2 processes": ProcessCrew(2),
            "1 node": replace(two, size=1),
            "2 nodes": two,
        }
        found: dict[str, list[float]] = {name: [] for name in crews}
        for turn in range(rounds):
            for name, times in found.items():
                times.append(
                    search_seconds(crews[name], place / f"{turn}-{name.replace(' ', '-')}")
                )
                print(f"  round {turn + 1}/{rounds}  {name}  {times[-1]:.1f} s", flush=True)
    alone = ratios(found["1 process"], found["2 processes"])
    low, high = interval(alone)
    print(f"  two processes without Ray: {median(alone):.2f} ({low:.2f} to {high:.2f})")
    claim = "twelve trials on two nodes compared with one"
    return judge_rounds(claim, ratios(found["1 node"], found["2 nodes"]), 1.7)


def a_lost_node_costs_no_trial(place: Path) -> bool:
    """Whether a search that loses one of two nodes has what a local one has."""
    from glasshouse.runs import folder as runs
    from glasshouse.storage import read_json

    out = place / "killed"
    search_that_loses_a_node(out)
    table = read_json(out / runs.TRIALS)["trials"]
    states = [row["state"] for row in table]
    rates = [row["values"][RATE] for row in table if row["state"] == "complete"]
    print(f"  {', '.join(f'{states.count(each)} {each}' for each in sorted(set(states)))}")
    there, here = curves(out), local_curves(place / "local", rates)
    differing = [rate for rate in {*there, *here} if there.get(rate) != here.get(rate)]
    held = [
        judge("trials that the killed node had begun", states.count("lost"), 1),
        judge("trials that finished, of 12", len(rates), TRIALS),
        judge("different configurations among them", len(set(rates)), TRIALS),
        judge("configurations twice in the table", len(rates) - len(set(rates)), 0, at_least=False),
        judge("configurations compared with a local search", len(here), TRIALS),
        judge("configurations with other metrics there", len(differing), 0, at_least=False),
    ]
    return all(held)


def search_that_loses_a_node(out: Path) -> None:
    """A search on two nodes, one of which is killed when some trials have ended."""
    from glasshouse.cluster.connection import connected
    from glasshouse.workflow.tune.tune import search_with

    ended, enough = list[int](), threading.Event()

    def count(trial: "TrialRecord") -> None:
        ended.append(trial.number)
        if len(ended) == LOST_AFTER:
            enough.set()

    # The head, which cannot be lost, does nothing else.
    with cluster_of(0, 1, 1) as nodes, connected(address_of(nodes)) as cluster:

        def lose_one() -> None:
            enough.wait()
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            print(f"  killed a node after {len(ended)} trials", flush=True)

        thread = threading.Thread(target=lose_one, daemon=True)
        thread.start()
        search = search_in(out, epochs=SHORT_EPOCHS)
        search_with(crew_of(cluster, 2, out), search, on_trial=count)
        thread.join()


def local_curves(out: Path, rates: Sequence[float]) -> dict[float, Any]:
    """Those of a search in processes of this machine that tries the same configurations."""
    from glasshouse.workflow.tune import study as studies
    from glasshouse.workflow.tune.tune import tune

    search = replace(search_in(out, epochs=SHORT_EPOCHS), workers=2)
    # The first of any search is the recipe's own rate; the others are queued, since what a sampler
    # draws late depends on which trials have ended by then.
    first = tune(replace(search, trials=1)).trials[0].values[RATE]
    study = studies.open_study(out, prune=False)
    for rate in sorted({*rates} - {first}):
        studies.queue_first(study, {RATE: rate})
    tune(search)
    return curves(out)


def curves(out: Path) -> dict[float, Any]:
    """Of each learning rate, the value of its trial and the metrics of every epoch."""
    from glasshouse.runs import folder as runs
    from glasshouse.storage import read_json

    found: dict[float, Any] = {}
    for folder in (out / runs.TRIAL_FOLDERS).iterdir():
        run = runs.read_run(folder)
        epochs = [{k: v for k, v in each.items() if k not in MEASURED} for each in run.epochs]
        found[float(run.recipe.train.lr)] = read_json(folder / runs.TRIAL)["value"], epochs
    return found


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    require("ray", "pip install -e '.[ray]'")
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        held = [two_are_faster(place, rounds)] if rounds else []
        held.append(a_lost_node_costs_no_trial(place))
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
