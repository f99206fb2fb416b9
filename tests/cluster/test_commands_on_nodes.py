"""The real command with --on and without: the same output and files, apart from times."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.inputs import FAST, make_photos
from tests.cluster.nodes import address_of, two_nodes
from tests.cluster.test_runs_on_nodes import result_files
from tests.journeys.command import ENVIRONMENT, glasshouse, start, wait_for_file
from tests.journeys.test_many_processes import free_port

pytestmark = [
    pytest.mark.slow,
    # Ray leaves the logs of its server for clients open.
    pytest.mark.filterwarnings("ignore:unclosed file .*ray_client_server:ResourceWarning"),
]
TINY = ("--epochs", "1", "--set", "data.train_limit=100", *FAST)
# Two pieces of work each, one for each node.
PREDICTED, EXPLAINED = 70, 10


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """How a cluster of two nodes is reached: as a machine of it, and as a client."""
    port = free_port()
    with two_nodes(client_port=port) as nodes:
        yield {"member": address_of(nodes), "client": f"ray://127.0.0.1:{port}"}


@pytest.fixture
def run(addresses: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command here, or where an address leads: its output, and the folder it ran in."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setitem(ENVIRONMENT, name, os.environ[name])

    def run_command(where: str, *words: str | Path) -> tuple[str, Path]:
        folder = tmp_path / where
        folder.mkdir()
        on = () if where == "here" else ("--on", addresses[where])
        done = glasshouse(*words, *on, cwd=folder)
        assert where == "here" or "2 pieces of work at the same time" in done.stderr
        return done.stdout, folder

    return run_command


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    make_photos(folder, PREDICTED)
    return folder


def test_predictions_on_nodes_are_printed_as_here(run: Any, photos: Path) -> None:
    words = ("predict", "cifar10-small", photos, "--json")
    here, _ = run("here", *words)
    assert len(json.loads(here)) == PREDICTED
    assert run("member", *words)[0] == here
    assert run("client", *words)[0] == here


def test_explanations_on_nodes_are_the_files_of_those_here(run: Any, photos: Path) -> None:
    some = sorted(photos.rglob("*.png"))[:EXPLAINED]
    words = ("explain", "cifar10-small", *some, "--method", "grad-cam", "--out", "maps")
    (ours, here), (theirs, there) = run("here", *words), run("member", *words)
    assert theirs == ours
    both = [every_file(folder / "maps") for folder in (here, there)]
    assert both[0] == both[1] and len(both[0]) >= EXPLAINED


def test_what_a_killed_command_had_explained_is_not_explained_again(
    run: Any, addresses: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    words = ("explain", "cifar10-small", photos, "--method", "grad-cam", "--out", "maps")
    (ours, here), there = run("here", *words), tmp_path / "there"
    there.mkdir()
    process = start(*words, "--on", addresses["member"], cwd=there)
    # A piece; the record of the command has a shorter name.
    wait_for_file(there, f"cache/results/*/{'?' * 64}", process)
    process.kill()
    process.communicate()
    (before,) = (there / "cache" / "results").iterdir()
    assert glasshouse(*words, "--on", addresses["member"], cwd=there).stdout == ours
    assert not before.exists()
    both = [every_file(folder / "maps") for folder in (here, there)]
    assert both[0] == both[1] and len(both[0]) >= PREDICTED


def test_a_ladder_on_nodes_has_the_runs_of_one_here(run: Any) -> None:
    words = ("ladder", "digits", "--image-size", "16", "--seeds", "1", *TINY, "--out", "steps")
    (ours, here), (theirs, there) = (run(each, *words, "--json") for each in ("here", "member"))
    assert without_seconds(theirs) == without_seconds(ours)
    assert_same_runs(here / "steps", there / "steps")


def test_seeds_that_a_client_asks_for_are_those_trained_here(run: Any) -> None:
    words = ("train", "digits", "--recipe", "small-cnn", "--seeds", "2", *TINY, "--out", "seeds")
    (_, here), (_, there) = run("here", *words), run("client", *words)
    assert_same_runs(here / "seeds", there / "seeds")


def test_a_run_in_several_processes_that_a_client_asks_for_is_that_of_one_here(run: Any) -> None:
    shards = ("--set", "train.shards=2", "--batch-size", "8")
    words = ("train", "digits", "--recipe", "small-cnn", *TINY, *shards, "--out", "one")
    (_, here), (_, there) = run("here", *words), run("client", *words, "--processes", "2")
    for name in ("model.safetensors", "predictions.safetensors"):
        assert (here / "one" / name).read_bytes() == (there / "one" / name).read_bytes()


def assert_same_runs(here: Path, there: Path) -> None:
    """Compare all files but reports; summaries and what the finder of rates leaves have times."""
    ours, theirs = result_files(here), result_files(there)
    assert ours.keys() == theirs.keys() and len(ours) > 5
    assert [name for name in ours if said(name, ours[name]) != said(name, theirs[name])] == []


def said(name: str, content: bytes) -> Any:
    return without_seconds(content) if name.endswith(".json") else content


def without_seconds(text: str | bytes) -> Any:
    """What a JSON document says apart from times."""
    return json.loads(text, object_hook=lambda found: {
        name: value for name, value in found.items() if "seconds" not in name
    })  # fmt: skip


def every_file(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
