"""`glasshouse ui`: the workbench in a browser, on this machine or through a proxy."""

import errno
import os
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from glasshouse.cli.options import DataDir, Offline

if TYPE_CHECKING:
    from glasshouse.serving.reach import Reach
    from glasshouse.serving.workbench import Workbench

_USUAL_PORT, _PORTS_TRIED = 8080, 20
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Runs = Annotated[Path, typer.Argument(metavar="RUNS", help="Folder with the runs.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Default: 8080 or the next free port.")
]
AllowedNames = Annotated[
    list[str] | None,
    typer.Option(
        help="Further host name in the address bar, or '*.example.org' for all below it; ports do "
        "not matter. Repeatable.",
    ),
]
Frames = Annotated[
    list[str] | None,
    typer.Option(help="Host whose pages may show it in a frame; self is its own. Repeatable."),
]
RootPath = Annotated[
    str, typer.Option(help="Prefix that a proxy leaves in the path, such as /apps/glasshouse.")
]
Token = Annotated[
    str | None,
    typer.Option(
        help="What browsers must present first. Default: that of GLASSHOUSE_TOKEN, or a random "
        "one, unless only this machine can connect.",
    ),
]
NoToken = Annotated[bool, typer.Option("--no-token", help="Let in everybody who can connect.")]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", help="Show runs; start, change and remove nothing.")
]
Websockets = Annotated[bool, typer.Option(help="Use websockets, where a proxy passes them on.")]


def ui(
    runs: Runs = Path("runs"),
    host: Host = None,
    port: Port = None,
    allow_host: AllowedNames = None,
    frame_host: Frames = None,
    root_path: RootPath = "",
    token: Token = None,
    no_token: NoToken = False,
    read_only: ReadOnly = False,
    websockets: Websockets = True,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    data_dir: DataDir = None,
    offline: Offline = False,
) -> None:
    """Open the workbench in the browser: train, inspect and compare runs.

    Only this machine can connect, unless --host or the variables of a hosted session say otherwise.
    """
    from glasshouse.errors import UsageError
    from glasshouse.serving import reach as names
    from glasshouse.serving.hosting import hosting_from
    from glasshouse.serving.inline_workbench import ENDS_WITH_INPUT
    from glasshouse.serving.workbench import Workbench

    if runs.exists() and not runs.is_dir():
        raise UsageError(f"{runs} is a file: expected the folder with the runs")
    if not runs.exists() and runs != Path("runs"):
        print(f"{runs} does not exist yet: the first training makes it", file=sys.stderr)
    hosting = hosting_from(os.environ)
    host = host or hosting.address
    port = _port_to_use(host, port or hosting.usual_port(read_only=read_only))
    is_local = host in _LOOPBACK
    reach = names.Reach(
        hosts=(
            *names.LOOPBACK,
            *(() if is_local else names.own_names(host)),
            *(each for each in hosting.hosts if not (no_token and each == names.ANY_HOST)),
            *names.host_patterns(allow_host or (), "--allow-host"),
        ),
        frames=(*hosting.frames, *names.frame_sources(frame_host or ())),
        token=_token(token, no_token=no_token, is_needed=hosting.needs_token or not is_local),
        root_paths=(*hosting.root_paths(port), *filter(None, [names.root_path(root_path)])),
        websockets=websockets,
    )
    read_only = read_only or port == hosting.read_only_port
    workbench = Workbench(runs.resolve(), data_dir, offline or read_only, read_only)
    link = f"?{urlencode({'token': reach.token})}" if reach.token else ""
    address = f"http://{_shown(host)}:{port}/{link}"
    print(f"{address}  (Ctrl+C stops it; training runs continue)", flush=True)
    if hosting.prefix is not None:
        print(f"through the notebook server: {hosting.prefix}proxy/{port}/{link}", flush=True)
    if browser and hosting.prefix is None:
        threading.Thread(target=_open_when_ready, args=(address, host, port), daemon=True).start()
    if os.environ.pop(ENDS_WITH_INPUT, None):
        threading.Thread(target=_end_with_input, daemon=True).start()
    _run(workbench, reach, host, port)


def _end_with_input() -> None:
    """Wait until the process that started this one is gone, and end it as a signal would."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _run(workbench: "Workbench", reach: "Reach", host: str, port: int) -> None:
    import uvicorn

    from glasshouse.serving.app import create_app
    from glasshouse.serving.connections import ConnectionLimits, limited_protocol

    # Messages stay on this machine: compressing them would only cost time.
    uvicorn.run(
        create_app(workbench, reach), host=host, port=port, log_level="warning",
        ws_per_message_deflate=False, http=limited_protocol(ConnectionLimits()),
    )  # fmt: skip


def _token(given: str | None, *, no_token: bool, is_needed: bool) -> str | None:
    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import UsageError

    if no_token:
        if given is not None:
            raise UsageError("--token and --no-token exclude each other")
        if is_needed:
            say("warning: everybody who can reach this address can see and start training runs")
        return None
    given = given or os.environ.get("GLASSHOUSE_TOKEN") or None
    return secrets.token_urlsafe(32) if given is None and is_needed else given


def _shown(host: str) -> str:
    """A host for an address that people can open."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname().lower()
    return f"[{host}]" if ":" in host else host


def _port_to_use(host: str, wanted: int | None) -> int:
    from glasshouse.errors import UsageError

    if wanted is not None:
        _require_free(host, wanted)
        return wanted
    tried = range(_USUAL_PORT, _USUAL_PORT + _PORTS_TRIED)
    for port in tried:
        try:
            _require_free(host, port)
        except UsageError:
            continue
        return port
    raise UsageError(
        f"ports {tried[0]} to {tried[-1]} of {host} cannot be used: choose one with --port"
    )


def _require_free(host: str, port: int) -> None:
    from glasshouse.errors import UsageError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as attempt:
        # As the server does: a port in TIME_WAIT, after an earlier workbench, counts as free.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"port {port} is in use: choose another with --port") from error
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --host "
                "or --port"
            ) from error


def _open_when_ready(address: str, host: str, port: int) -> None:
    for _ in range(100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as attempt:
            if attempt.connect_ex((host, port)) == 0:
                webbrowser.open(address)
                return
        time.sleep(0.1)
