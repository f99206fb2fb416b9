"""Runs and trials on a real cluster: the files of the local path, also where a node is lost."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glasshouse.cluster.connection import connected
from glasshouse.cluster.pieces import Cluster
from glasshouse.cluster.piecework import at_the_same_time, one_after_another
from glasshouse.errors import DataError, Interrupted
from glasshouse.recipe import load_recipe
from glasshouse.settings import Recipe
from glasshouse.workflow.compare import remote_runs
from glasshouse.workflow.compare.backbones import BackboneTable, compare_backbones
from glasshouse.workflow.compare.cross_validation import cross_validate
from glasshouse.workflow.compare.remote_runs import trained_ahead
from glasshouse.workflow.compare.seeds import seed_requests, train_seeds
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.same_images import SameImages
from glasshouse.workflow.tune.remote_crew import ClusterCrew
from glasshouse.workflow.tune.space import parse_search
from glasshouse.workflow.tune.tune import Search, search_with, tune
from tests.cluster.nodes import STORE_BYTES, address_of, two_nodes

pytestmark = pytest.mark.slow
SMALL = ("data.train_limit=200", "train.epochs=3", "train.device=cpu", "train.precision=fp32")
# Measured times, and what is named after them.
TIMED = {"seconds.json", "cost.json", "metrics.jsonl", "steps.jsonl", "environment.json"}
NOWHERE = (Path("/nonexistent/marker"), "text")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(nodes: Any) -> Iterator[Cluster]:
    with connected(address_of(nodes)) as found:
        yield found


@contextmanager
def nothing_shared(folder: Path) -> Iterator[tuple[Path, str]]:
    yield NOWHERE


def request(out: Path) -> TrainRequest:
    return TrainRequest("digits", load_recipe("small-cnn", SMALL), out, offline=True)


def result_files(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file() and "checkpoint" not in p.parts)
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in paths
        if p.name not in TIMED and p.suffix not in (".html", ".png")
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("local") / "seeds"
    train_seeds(request(out), 3)
    return out


@pytest.mark.parametrize("is_shared", [True, False])
def test_seeds_on_nodes_leave_the_files_of_the_local_path(
    cluster: Cluster, local: Path, tmp_path: Path, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_shared:
        monkeypatch.setattr(remote_runs, "marked", nothing_shared)
    asked, ended = request(tmp_path / "far"), list[Path]()
    with trained_ahead(
        cluster, seed_requests(asked, 3), on_end=lambda each: ended.append(each.out)
    ) as run:
        summary = train_seeds(asked, 3, run)
    # seeds.json has times.
    ours, theirs = result_files(local), result_files(asked.out)
    assert json.loads(theirs.pop("seeds.json"))["scores"] == list(summary.scores)
    assert json.loads(ours.pop("seeds.json"))["scores"] == list(summary.scores)
    assert ours.keys() == theirs.keys() and len(ours) > 15
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert sorted(ended) == [asked.out / f"seed-{n}" for n in range(3)]
    data = json.loads((asked.out / "seed-0" / "environment.json").read_text())["data"]
    assert data == json.loads((local / "seed-0" / "environment.json").read_text())["data"]
    # Nothing is trained again, and no run is replaced.
    before = {p: p.stat().st_mtime_ns for p in asked.out.glob("seed-*/*")}
    with trained_ahead(cluster, seed_requests(asked, 3)) as run:
        train_seeds(TrainRequest(**{**vars(asked), "resume": True}), 3, run)
    assert {p: p.stat().st_mtime_ns for p in asked.out.glob("seed-*/*")} == before


def test_a_signal_stops_the_runs_and_the_same_command_resumes(
    cluster: Cluster, local: Path, tmp_path: Path
) -> None:
    asked = request(tmp_path / "far")
    with (
        pytest.raises(Interrupted),
        trained_ahead(cluster, seed_requests(asked, 3), signal_received=lambda: 15) as run,
    ):
        train_seeds(asked, 3, run)
    with trained_ahead(cluster, seed_requests(asked, 3)) as run:
        train_seeds(TrainRequest(**{**vars(asked), "resume": True}), 3, run)
    model = Path("seed-2") / "model.safetensors"
    assert (asked.out / model).read_bytes() == (local / model).read_bytes()


def test_an_error_of_a_run_is_raised_as_it_is_here(cluster: Cluster, tmp_path: Path) -> None:
    missing = TrainRequest(str(tmp_path / "none"), load_recipe("small-cnn"), tmp_path / "far")
    with (
        pytest.raises(DataError, match="none"),
        trained_ahead(cluster, seed_requests(missing, 2)) as run,
    ):
        train_seeds(missing, 2, run)


def test_other_images_on_a_node_are_an_error(local: Path, tmp_path: Path) -> None:
    other = TrainRequest(
        "shapes", load_recipe("small-cnn", SMALL), tmp_path / "other", offline=True
    )
    train_seeds(other, 1)
    images = SameImages()
    images.require(local / "seed-0")
    images.require(local / "seed-1")
    with pytest.raises(DataError, match="was trained on other images than"):
        images.require(other.out / "seed-0")


def search(out: Path, trials: int, epochs: int = 2) -> Search:
    return Search(
        "digits", "small-cnn", (parse_search("train.lr=1e-4..1e-1:log"),), out,
        overrides=(*SMALL, f"train.epochs={epochs}"), trials=trials, prune=False, offline=True,
    )  # fmt: skip


@pytest.mark.parametrize("is_shared", [True, False])
def test_trials_on_a_node_are_those_of_the_local_search(
    cluster: Cluster, tmp_path: Path, is_shared: bool
) -> None:
    here = tune(search(tmp_path / "here", 4))
    marker = tmp_path / "marker"
    marker.write_text("text" if is_shared else "other")
    crew = ClusterCrew(cluster, (marker, "text"), size=1)
    there = search_with(crew, search(tmp_path / "there", 4))
    assert there == here
    assert result_files(tmp_path / "there" / "trials") == result_files(tmp_path / "here" / "trials")


def test_folds_and_backbones_on_nodes_are_those_of_the_local_path(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    torch.set_num_threads(1)
    ended: list[tuple[int, int]] = []
    far = at_the_same_time(cluster, on_end=lambda *numbers: ended.append(numbers))
    asked = TrainRequest("digits", frozen(32), tmp_path, offline=True)
    here = cross_validate(asked, folds=3)
    # Where no features are known, so that the nodes extract them.
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    there = cross_validate(asked, folds=3, piecework=far)
    assert len(list((tmp_path / "cache").rglob("features/*/*.npy"))) == 4
    assert ended == [(1, 3), (2, 3), (3, 3)]
    assert here.predictions.logits.tobytes() == there.predictions.logits.tobytes()
    assert here.scores == there.scores
    recipes = {"smaller": frozen(16), "larger": frozen(32)}
    ours, theirs = (
        compare_backbones(asked, recipes, piecework=each) for each in (one_after_another, far)
    )
    assert without_times(ours) == without_times(theirs)


def frozen(size: int) -> Recipe:
    net = ("name=resnet10t", "weights=none", f"input_size={size}")
    changes = ["data.train_limit=200", "train.device=cpu", "train.precision=fp32"]
    return load_recipe("transfer-features", [*changes, *(f"model.pretrained.{n}" for n in net)])


def without_times(table: BackboneTable) -> BackboneTable:
    rows = (replace(row, feature_seconds=0, head_seconds=0) for row in table.backbones)
    return replace(table, backbones=tuple(rows))


def test_a_node_that_is_lost_costs_no_trial(nodes: Any, cluster: Cluster, tmp_path: Path) -> None:
    extra = nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    marker = tmp_path / "marker"
    marker.write_text("text")
    out, states = tmp_path / "there", list[tuple[int, str]]()

    def lose_node() -> None:
        while not list(out.glob("trials/*/metrics.jsonl")):
            time.sleep(0.05)
        nodes.remove_node(extra, allow_graceful=False)

    thread = threading.Thread(target=lose_node)
    thread.start()
    found = search_with(
        ClusterCrew(cluster, (marker, "text"), size=3),
        search(out, 6, epochs=10),
        on_trial=lambda trial: states.append((trial.number, trial.state)),
    )
    thread.join()
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert len(complete) == 6 and {t.state for t in found.trials} <= {"complete", "lost"}
    assert len({trial.values["train.lr"] for trial in complete}) == 6
    assert len(states) == len(set(states)) == len(found.trials)
    assert cluster.places == 2
