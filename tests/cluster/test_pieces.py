"""Pieces of work on a real cluster of two nodes."""

import os
import signal
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glasshouse.cluster.connection import connected
from glasshouse.cluster.pieces import Cluster, Terms, opened, portable, read_versions, run_piece
from glasshouse.errors import (
    BadImage,
    DataError,
    GlasshouseError,
    GlasshouseWarning,
    GpuMemoryError,
    Interrupted,
    MissingSource,
    StorageError,
    UnreadableFiles,
    UsageError,
    WrongInputSize,
)
from tests.cluster.nodes import address_of, this_module, two_nodes

# Ray gives a node 30 seconds to start, which is too short on a busy machine.
on_nodes = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes(this_module(__name__)) as nodes, connected(address_of(nodes)) as found:
        yield found


def times(factor: int, number: int) -> int:
    return factor * number


def fail(kind: str) -> None:
    warnings.warn("take care", GlasshouseWarning, stacklevel=1)
    if kind == "data":
        raise UnreadableFiles("two files are bad", [("a.png", "empty")])
    raise FileNotFoundError(2, "No such file or directory", "/data/none")


def fill() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def die_once(folder: Path) -> int:
    path = folder / "attempts"
    attempts = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(attempts))
    if attempts < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempts


def threads() -> int:
    return torch.get_num_threads()


@on_nodes
def test_each_piece_has_its_own_result(cluster: Cluster) -> None:
    assert cluster.places == 2
    pieces = [cluster.begin(times, 3, number) for number in range(20)]
    assert [cluster.result(piece) for piece in pieces] == [3 * number for number in range(20)]
    assert cluster.ended(pieces, 1) and cluster.ended([], 1) == []


@on_nodes
def test_errors_and_warnings_are_those_of_the_piece(cluster: Cluster) -> None:
    with (
        pytest.warns(GlasshouseWarning, match="take care"),
        pytest.raises(DataError, match=r"two files are bad\n  a\.png: empty") as caught,
    ):
        cluster.result(cluster.begin(fail, "data"))
    assert caught.value.exit_code == 3
    with pytest.warns(GlasshouseWarning), pytest.raises(StorageError, match="/data/none"):
        cluster.result(cluster.begin(fail, "system"))


@on_nodes
def test_a_piece_whose_process_dies_runs_again(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.result(cluster.begin(die_once, tmp_path)) == 3


@on_nodes
def test_a_piece_computes_with_its_threads(cluster: Cluster) -> None:
    assert cluster.result(cluster.begin(threads)) == cluster.terms.threads


@on_nodes
def test_other_versions_stop_a_piece(cluster: Cluster) -> None:
    other = Cluster(cluster.ray, Terms({**cluster.terms.versions, "torch": "1.0"}, 1), 0)
    with pytest.raises(UsageError, match=r"has torch 2\S+ instead of 1\.0"):
        other.result(other.begin(times, 1, 1))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WrongInputSize("too small"), WrongInputSize),
        (BadImage("a.png", "empty"), DataError),
        (UnreadableFiles("bad", []), DataError),
        (Interrupted("stopped", 2), GlasshouseError),
    ],
)
def test_errors_that_cannot_be_sent_become_a_plainer_one(
    error: GlasshouseError, kind: type[GlasshouseError]
) -> None:
    sent = portable(error, Terms({}, 1))
    assert type(sent) is kind and str(sent) == str(error)


def test_what_is_wrong_with_files_of_another_machine_names_it() -> None:
    terms = Terms({}, 1, "driver")
    assert str(portable(DataError("no images"), terms)) == f"{socket.gethostname()}: no images"
    assert str(portable(UsageError("no such key"), terms)) == "no such key"
    missing = str(portable(MissingSource("no folder"), terms))
    assert (
        missing.startswith(f"{socket.gethostname()}: no folder. Each machine")
        and "SOURCE" in missing
    )
    assert str(portable(MissingSource("no folder"), Terms({}, 1))) == "no folder"


def test_a_piece_checks_the_versions_where_it_runs() -> None:
    with pytest.raises(UsageError, match=r"instead of 1\.0"):
        opened(run_piece(Terms({"torch": "1.0"}, 1), times, 1, 1))


def test_a_piece_that_fills_the_memory_of_a_gpu_has_a_named_error() -> None:
    outcome = run_piece(Terms(read_versions(), 1), fill)
    assert type(outcome.error) is GpuMemoryError
    assert "the GPU's memory is full" in str(outcome.error)
