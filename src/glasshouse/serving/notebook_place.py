"""How the browser that shows a notebook reaches a port of the notebook's own machine."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from glasshouse.errors import UsageError

_COLAB_PAGES = ("colab.research.google.com", "*.googleusercontent.com")


@dataclass(frozen=True)
class NotebookPlace:
    """Where a port can be opened.

    address: of the port, as the browser sees it, with a slash at the end; it may be relative to the
    page of the notebook. options: those of `glasshouse ui` that it needs. is_shared: others reach
    the port too, so that it needs a token. is_framed: whether the page may show it in a frame.
    """

    address: str
    options: tuple[str, ...] = ()
    is_shared: bool = False
    is_framed: bool = True


def notebook_place(port: int, environment: Mapping[str, str]) -> NotebookPlace:
    """The way to this port, on the host of this kernel; raises UsageError where there is none."""
    if "KAGGLE_KERNEL_RUN_TYPE" in environment:
        raise UsageError(
            "Kaggle's notebooks have no port that a browser reaches: gh.show(run) shows the report "
            "of a run in the cell"
        )
    if "google.colab" in sys.modules:
        return _colab(port)
    if "DATABRICKS_RUNTIME_VERSION" in environment:
        return _databricks(port)
    if "JUPYTERHUB_SERVICE_PREFIX" in environment:
        prefix = environment["JUPYTERHUB_SERVICE_PREFIX"].strip("/")
        return _proxied(f"/{prefix}/".replace("//", "/"), port)
    address = f"http://127.0.0.1:{port}/"
    if "VSCODE_PID" in environment or "VSCODE_CWD" in environment:
        # Its pages have an origin that no policy can name.
        return NotebookPlace(address, is_framed=False)
    base = _own_base(environment)
    if base is not None and find_spec("jupyter_server_proxy") is not None:
        return _proxied(base, port)
    # The browser is on this machine, or has its port under the same name.
    return NotebookPlace(address, _frame_hosts("127.0.0.1", "localhost"))


def _proxied(base: str, port: int) -> NotebookPlace:
    if find_spec("jupyter_server_proxy") is None:
        raise UsageError(
            "this notebook server passes no port on to the browser: install "
            '"glasshouse[jupyter]" where it runs, and start it again'
        )
    # Under whichever name people see the server, which answers to that name.
    options = ("--allow-host", "*", *_frame_hosts("self"))
    return NotebookPlace(f"{base}proxy/{port}/", options, is_shared=True)


def _colab(port: int) -> NotebookPlace:
    output: Any = import_module("google.colab.output")
    address = str(output.eval_js(f"google.colab.kernel.proxyPort({port})"))
    host = urlsplit(address).hostname or "*.googleusercontent.com"
    # No websocket gets through its proxy.
    options = ("--no-websockets", "--allow-host", host, *_frame_hosts(*_COLAB_PAGES))
    return NotebookPlace(f"{address.rstrip('/')}/", options)


def _databricks(port: int) -> NotebookPlace:
    session: Any = import_module("pyspark.sql").SparkSession.getActiveSession()
    tags = "spark.databricks.clusterUsageTags"
    organisation, cluster = (
        session.conf.get(f"{tags}.{name}") for name in ("clusterOwnerOrgId", "clusterId")
    )
    host = str(session.conf.get("spark.databricks.workspaceUrl"))
    # Its proxy connects from another machine.
    options = ("--host", "0.0.0.0", "--allow-host", host, *_frame_hosts(host))
    address = f"https://{host}/driver-proxy/o/{organisation}/{cluster}/{port}/"
    return NotebookPlace(address, options, is_shared=True)


def _own_base(environment: Mapping[str, str]) -> str | None:
    """The base of the addresses of the notebook server that started this kernel."""
    parent = environment.get("JPY_PARENT_PID")
    if parent is None or find_spec("jupyter_server") is None:
        return None
    servers: Any = import_module("jupyter_server.serverapp")
    try:
        running = list(servers.list_running_servers())
    except (OSError, json.JSONDecodeError):
        return None
    return next((each["base_url"] for each in running if str(each.get("pid")) == parent), None)


def _frame_hosts(*names: str) -> tuple[str, ...]:
    return tuple(part for name in names for part in ("--frame-host", name))
