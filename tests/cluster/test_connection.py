"""What is said where there is no cluster to connect to."""

import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.cluster import connection, pieces
from glasshouse.cluster.connection import connected, require_address
from glasshouse.cluster.pieces import Cluster
from glasshouse.cluster.versions import require_versions, version_reader
from glasshouse.errors import UsageError


@pytest.mark.parametrize("address", ["", "dask", "ray://", "ray://host", "host", "http://a:1"])
def test_anything_but_an_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"--on .*: expected ray, .*ray://HOST:PORT"):
        require_address(address)


def test_nothing_is_required_without_on() -> None:
    require_address(None)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'glasshouse\[ray\]'"):
        require_address("ray")


@pytest.fixture
def ray_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"):
        monkeypatch.setenv(name, "token" if name == "RAY_AUTH_MODE" else "0")


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_host_that_does_not_answer_is_named(prefix: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with (
        pytest.raises(UsageError, match=rf"nothing answers at 127.0.0.1:{port} .*ray status"),
        connected(f"{prefix}127.0.0.1:{port}"),
    ):
        pass


@pytest.mark.usefixtures("ray_is_there")
def test_a_cluster_needs_its_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(UsageError, match=r"RAY_AUTH_TOKEN or ~/.ray/auth_token"),
            connected(address),
        ):
            pass


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (set(), r"none of the cluster's.*--on ray://127.0.0.1:10001"),
        ({"10.0.0.1:1"}, r"belongs to the cluster at 10\.0\.0\.1:1"),
    ],
)
def test_a_machine_outside_the_cluster_is_told_the_address_for_clients(
    nodes: set[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    monkeypatch.setattr(connection, "_nodes_here", lambda: nodes)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match=reason), connected(address):
            pass


def test_a_client_that_is_not_taken_is_told_of_token_and_port() -> None:
    found = connection._why_not_connected(
        "ray://a:1", ConnectionError("ray client connection timeout")
    )
    assert "token" in found and "10001" in found


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_a_piece_takes_a_number_of_cores(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(UsageError, match=f"OMP_NUM_THREADS is {threads}"), connected("ray"):
        pass


def test_another_version_of_ray_is_named() -> None:
    said = "Version mismatch: The cluster was started with:\n    Ray: 2.56.0\n    Python: 3.11.7\n"
    found = connection._why_not_connected("ray://a:1", RuntimeError(said))
    assert "started with: Ray: 2.56.0 Python: 3.11.7" in found
    assert "its versions of Ray and Python are those of this machine" in found


@pytest.mark.usefixtures("ray_is_there")
def test_a_cluster_that_is_started_here_has_a_token_and_no_dashboard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, object] = {}
    ray = SimpleNamespace(
        init=lambda **given: options.update(given),
        shutdown=lambda: None,
        nodes=lambda: [with_cores(1)],
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(connection, "read_versions", dict)
    monkeypatch.setattr(connection, "require_alike_nodes", lambda cluster: None)
    monkeypatch.setattr(connection, "_gpus", lambda ray, device: 0)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    del os.environ["RAY_AUTH_MODE"]
    with connected("ray"):
        assert options["address"] == "local" and options["include_dashboard"] is False
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def with_cores(count: float, *, is_alive: bool = True) -> dict[str, Any]:
    names = {"NodeID": "a", "NodeManagerHostname": "node", "NodeManagerAddress": "127.0.0.1"}
    return {"Alive": is_alive, "Resources": {"CPU": count} if count else {}, **names}


class Clock:
    """A time that passes only while somebody sleeps, and what the nodes of a cluster are then."""

    def __init__(self, joins_at: float) -> None:
        self.joins_at, self.seconds = joins_at, 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def nodes(self) -> list[dict[str, Any]]:
        has_joined = self.seconds >= self.joins_at
        return [with_cores(0), with_cores(8, is_alive=False), *[with_cores(2)] * has_joined]


@pytest.fixture
def connect_at(monkeypatch: pytest.MonkeyPatch, ray_is_there: None) -> Any:
    """What connects to a cluster with the nodes of a clock, and leaves what was said in a list."""

    def connect(clock: Clock, said: list[str], device: str) -> Cluster:
        ray = SimpleNamespace(
            init=lambda **given: None,
            shutdown=lambda: None,
            nodes=clock.nodes,
            cluster_resources=lambda: {"GPU": 1} if clock.seconds >= clock.joins_at else {},
            remote=lambda work: FakeRemote(),
            get=lambda found: {},
        )
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(connection, "read_versions", dict)
        monkeypatch.setattr(pieces, "version_reader", lambda: None)
        monkeypatch.setattr(pieces, "_only_on", lambda node: None)
        monkeypatch.setattr(
            connection, "time", SimpleNamespace(monotonic=lambda: clock.seconds, sleep=clock.sleep)
        )
        with connected("auto", device=device, say=said.append) as cluster:
            return cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    return connect


class FakeRemote:
    """What stands for a function that a node runs."""

    def options(self, **given: object) -> "FakeRemote":
        return self

    def remote(self) -> None:
        pass


def test_a_cluster_whose_workers_are_there_is_not_waited_for(connect_at: Any) -> None:
    clock, said = Clock(joins_at=0), list[str]()
    connect_at(clock, said, "cpu")
    assert said == [] and clock.seconds == 0


def test_the_first_worker_is_waited_for_with_one_line(connect_at: Any) -> None:
    clock, said = Clock(joins_at=200), list[str]()
    # Whether the cluster has GPUs is known when it has joined, too.
    assert connect_at(clock, said, "cuda").gpus == 1
    assert len(said) == 1 and "first worker of the cluster, for at most 5 minutes" in said[0]
    assert clock.seconds == 200


def test_a_cluster_that_stays_without_workers_is_refused_after_some_minutes(
    connect_at: Any,
) -> None:
    clock, said = Clock(joins_at=1000), list[str]()
    with pytest.raises(
        UsageError, match="no node of the cluster has a core to work with: start workers"
    ):
        connect_at(clock, said, "cpu")
    assert len(said) == 1 and clock.seconds == 300


def test_other_versions_are_named_with_the_node() -> None:
    ours = version_reader()()
    require_versions("node1", dict(ours), ours)
    assert ours["glasshouse"] != "none" and len(ours["code of glasshouse"]) == 12
    with pytest.raises(UsageError, match=rf"node1 has torch 1\.0 instead of {ours['torch']}, so"):
        require_versions("node1", {**ours, "torch": "1.0"}, ours)
    without = {**ours, "glasshouse": "none", "code of glasshouse": "0"}
    with pytest.raises(UsageError, match="node1 has glasshouse none instead of 0"):
        require_versions("node1", without, ours)


def test_the_code_of_the_package_is_part_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "glasshouse"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("glasshouse", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    before = version_reader()()["code of glasshouse"]
    assert version_reader()()["code of glasshouse"] == before
    (package / "loop.py").write_text("STEPS = 2", encoding="utf-8")
    assert version_reader()()["code of glasshouse"] != before
