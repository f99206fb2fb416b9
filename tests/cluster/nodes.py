"""Two nodes of one core each, on this machine, and a context in which they are connected."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

STORE_BYTES = 100_000_000


@contextmanager
def two_nodes(*modules: ModuleType, client_port: int | None = None) -> Iterator[Any]:
    """A cluster that `connected` can be given the address of; modules: sent by their code.

    client_port: that of an address that begins with ray://, where there has to be one.
    """
    # Ray reads them when it is imported.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    head = {**node, "include_dashboard": False, "ray_client_server_port": client_port}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def address_of(cluster: Any) -> str:
    """Its address on this machine."""
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def this_module(name: str) -> ModuleType:
    """A module of tests, which the nodes cannot import."""
    return sys.modules[name]
