"""`glasshouse ui`: the workbench in a browser on this machine."""

import socket
import threading
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from glasshouse.cli.options import DataDir, Offline

_HOST, _USUAL_PORT, _PORTS_TRIED = "127.0.0.1", 8080, 20


def ui(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with the runs.")] = Path(
        "runs"
    ),
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: 8080 or the next free port."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    data_dir: DataDir = None,
    offline: Offline = False,
) -> None:
    """Open the workbench in the browser: train, inspect and compare runs. Local access only."""
    from glasshouse.errors import UsageError

    if runs.exists() and not runs.is_dir():
        raise UsageError(f"{runs} is a file: expected the folder with the runs")
    found = port if port is not None else _free_port()
    if port is not None and not _is_free(port):
        raise UsageError(f"port {port} is in use: choose another with --port")
    import uvicorn

    from glasshouse.serving.app import create_app
    from glasshouse.serving.connections import ConnectionLimits, limited_protocol
    from glasshouse.serving.workbench import Workbench

    app = create_app(Workbench(runs.resolve(), data_dir, offline))
    address = f"http://{_HOST}:{found}/"
    print(f"{address}  (Ctrl+C stops it; training runs continue)", flush=True)
    if browser:
        threading.Thread(target=_open_when_ready, args=(address, found), daemon=True).start()
    # Messages stay on this machine: compressing them would only cost time.
    uvicorn.run(
        app, host=_HOST, port=found, log_level="warning", ws_per_message_deflate=False,
        http=limited_protocol(ConnectionLimits()),
    )  # fmt: skip


def _free_port() -> int:
    from glasshouse.errors import UsageError

    tried = range(_USUAL_PORT, _USUAL_PORT + _PORTS_TRIED)
    found = next((port for port in tried if _is_free(port)), None)
    if found is None:
        raise UsageError(f"ports {tried[0]} to {tried[-1]} are all in use: choose one with --port")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        # As the server does: a port in TIME_WAIT, after an earlier workbench, counts as free.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((_HOST, port))
        except OSError:
            return False
    return True


def _open_when_ready(address: str, port: int) -> None:
    for _ in range(100):
        with socket.socket() as attempt:
            if attempt.connect_ex((_HOST, port)) == 0:
                webbrowser.open(address)
                return
        time.sleep(0.1)
