"""The workbench as a tile in the launcher of JupyterLab, through jupyter-server-proxy."""

import secrets
import sys
from importlib import resources
from typing import Any


def jupyter_server() -> dict[str, Any]:
    """What jupyter-server-proxy starts at ``/glasshouse/``, below the notebook server's address.

    It is found by the entry point jupyter_serverproxy_servers, and shows the folder ``runs`` where
    the notebook server was started. Only that server knows the token of the workbench, so that
    other users of the machine, who may reach its port, cannot use it.
    """
    token = secrets.token_urlsafe(32)
    icon = resources.files("glasshouse.serving") / "assets" / "favicon.svg"
    # The name in the address bar is whichever the notebook server has, and answers to.
    options = ["--port", "{port}", "--no-browser", "--allow-host", "*"]
    return {
        "command": [sys.executable, "-P", "-m", "glasshouse", "ui", *options],
        "environment": {"GLASSHOUSE_TOKEN": token},
        "request_headers_override": {"Authorization": f"Bearer {token}"},
        # Of a start on a busy machine, in seconds.
        "timeout": 60,
        "launcher_entry": {"title": "Glasshouse", "icon_path": str(icon)},
    }
