"""What is said where there is no cluster to connect to."""

import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from glasshouse.cluster import connection
from glasshouse.cluster.connection import connected, require_address
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
    ray = SimpleNamespace(init=lambda **given: options.update(given), shutdown=lambda: None)
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
