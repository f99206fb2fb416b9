"""A Ray cluster: one on this machine that is started here, or one that runs already."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from glasshouse.child_python import child_environment
from glasshouse.cluster.pieces import (
    Cluster,
    Terms,
    most_cores,
    read_versions,
    require_alike_nodes,
)
from glasshouse.errors import UsageError

LOCAL = "ray"
_CLIENT = "ray://"
_ADDRESS = re.compile(r"(ray://)?[^:/\s]+:\d+|auto")
_STORE_BYTES = 200_000_000
_REACHED_S, _STARTS = 15, 3
_FIRST_WORKER_MINUTES, _POLL_S = 5, 1
_TOKEN_FILE = Path(".ray") / "auth_token"
# With which Ray starts each process of a node.
_BELONGS_TO = "--gcs-address="
# Of what it says itself of a client that has not connected, and of one that sends much.
_SAID_BY_CLIENT = r"Ray Client connection timed out|More than 10MB of messages"


def require_address(address: str | None) -> None:
    """Raise UsageError for what --on does not take, or where Ray is not installed."""
    if address is None:
        return
    if address != LOCAL and not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"--on {address}: expected ray, which starts one on this machine, ray://HOST:PORT, "
            "HOST:PORT, or auto, on a machine of a cluster"
        )
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"--on {address} needs Ray: pip install 'glasshouse[ray]'")


@contextmanager
def connected(
    address: str, *, device: str = "cpu", say: Callable[[str], None] = lambda text: None
) -> Iterator[Cluster]:
    """A context with the cluster at an address, whose machines have the versions of this one.

    Each piece of work takes as many cores as OMP_NUM_THREADS says, else one, and a GPU where the
    device asks for one. Where no node has a core yet, `say` is called with what is waited for.
    Raises UsageError where there is no such cluster, and for the number of a GPU.
    """
    _require_any_gpu(device)
    require_address(address)
    threads = _threads()
    _set_environment(address)
    with _initialised(address) as ray:
        _await_worker(ray, say)
        cluster = Cluster(ray, Terms(read_versions(), threads), _gpus(ray, device))
        require_alike_nodes(cluster)
        yield cluster


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "1")
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"OMP_NUM_THREADS is {given}: expected a number of threads per piece")
    return int(given)


def _await_worker(ray: Any, say: Callable[[str], None]) -> None:
    """Return once a node has a core, or after some minutes."""
    # A head may have been started without cores, and workers may need minutes to join it.
    if most_cores(ray):
        return
    say(
        "waiting for the first worker of the cluster, for at most "
        f"{_FIRST_WORKER_MINUTES} minutes: none of its nodes has a core"
    )
    begun = time.monotonic()
    while not most_cores(ray) and time.monotonic() - begun < 60 * _FIRST_WORKER_MINUTES:
        time.sleep(_POLL_S)


def _require_any_gpu(device: str) -> None:
    """Raise UsageError for a numbered GPU: a piece sees only its own, which is always cuda:0."""
    if device.startswith("cuda:"):
        raise UsageError(
            f"--on chooses the GPU of each piece of work: use --device cuda instead of {device}"
        )


def _gpus(ray: Any, device: str) -> int:
    """How many GPUs a piece takes: Ray hides those that it did not ask for."""
    has_some = ray.cluster_resources().get("GPU", 0) >= 1
    if device == "cuda" and not has_some:
        raise UsageError(f"device {device}: the cluster has no GPU")
    return int(has_some and device in ("auto", "cuda"))


def _set_environment(address: str) -> None:
    """Set what Ray reads when it is imported, and its processes inherit."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    for name, value in {**wanted, "RAY_AUTH_MODE": "token"}.items():
        os.environ.setdefault(name, value)
    if address != LOCAL:
        _require_reachable(address)
        _require_token(address)
        _require_member(address)
        return
    # Without a number, Ray repeats a piece that runs out of memory for ever.
    os.environ.setdefault("RAY_task_oom_retries", "5")
    if not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.update(child_environment())


def _require_reachable(address: str) -> None:
    # Ray tries for long, or ends this process.
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), _REACHED_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--on {address}: nothing answers at {host}:{port} ({error}). Check the address and "
            "that the cluster runs: `ray status` on its first machine"
        ) from error


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / _TOKEN_FILE).is_file()


def _require_token(address: str) -> None:
    if os.environ["RAY_AUTH_MODE"] == "token" and not _has_token():
        raise UsageError(
            f"--on {address}: the token of the cluster is needed. Put it into RAY_AUTH_TOKEN or "
            f"~/{_TOKEN_FILE.as_posix()}; for a cluster without one, on a network that only you "
            "can reach, set RAY_AUTH_MODE=disabled"
        )


def _require_member(address: str) -> None:
    """Raise UsageError unless this machine is of the cluster at HOST:PORT."""
    # Elsewhere, Ray waits for long, and then ends this process.
    host, _, port = address.rpartition(":")
    if not host or address.startswith(_CLIENT):
        return
    nodes = _nodes_here()
    if not nodes:
        raise UsageError(
            f"--on {address}: this machine is none of the cluster's. Use the client's port, "
            f"--on {_CLIENT}{host}:10001, or start the command on a machine of the cluster"
        )
    if all(node.rpartition(":")[2] != port for node in nodes):
        raise UsageError(
            f"--on {address}: this machine belongs to the cluster at {', '.join(sorted(nodes))}: "
            "expected --on with that address, or ray:// with the port of the client"
        )


def _nodes_here() -> set[str]:
    """The addresses of the clusters that this machine is a node of."""
    commands = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return {
        word.removeprefix(_BELONGS_TO)
        for words in commands
        for word in words
        if word.startswith(_BELONGS_TO)
    }


@contextmanager
def _initialised(address: str) -> Iterator[Any]:
    import ray

    place = Path(tempfile.mkdtemp(prefix="gh-"))
    options: dict[str, Any] = {"address": address, "log_to_driver": False}
    if address == LOCAL:
        options = {
            "address": "local",
            "log_to_driver": False,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_temp_dir": str(place),
        }
    before = Path.cwd()
    try:
        # Ray puts the current folder of this process first in the search path of its workers,
        # where a queue.py in it would be run in place of the standard library's.
        os.chdir(place)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _SAID_BY_CLIENT)
            try:
                _start(ray, address, options)
            finally:
                os.chdir(before)
            yield ray
    finally:
        with contextlib.suppress(ConnectionError):
            ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def _start(ray: Any, address: str, options: dict[str, Any]) -> None:
    # On a busy machine, one that is started here may not be up within Ray's half a minute.
    for left in reversed(range(_STARTS if address == LOCAL else 1)):
        try:
            ray.init(logging_level=logging.ERROR, configure_logging=False, **options)
            return
        # Ray raises errors of many kinds, among them plain exceptions.
        except Exception as error:
            if not left:
                raise UsageError(_why_not_connected(address, error)) from error
            ray.shutdown()


def _why_not_connected(address: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    if "ersion" in str(error):
        reason = " ".join(lines)[:300]
    if address.startswith(_CLIENT) and "client connection timeout" in reason:
        return (
            f"--on {address}: something answers there, but took no client of Ray. Check the token "
            "(that of the cluster, in RAY_AUTH_TOKEN or ~/.ray/auth_token), and the port: the "
            "client's, 10001 unless `ray start` was given another --ray-client-server-port"
        )
    return (
        f"--on {address}: Ray did not connect: {reason.rstrip('.')}. Check that the cluster runs, "
        "the address, the token, and that its versions of Ray and Python are those of this machine"
    )
