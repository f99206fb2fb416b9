"""An HTTP server that, when it is asked to stop, still answers what it has accepted."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from glasshouse.serving.service.service import Service

# A request that was under way to an idle connection has come by then.
_QUIET_SECONDS = 0.5
_TICK = 0.05
BACKLOG = 2048


@dataclass(frozen=True)
class ShutdownPolicy:
    """How long the server stays after it was asked to stop, in seconds.

    drain: it says that it is not ready, and still takes new connections, so that whoever
    distributes the requests can look elsewhere. grace: for what was accepted.
    """

    drain: float = 0.0
    grace: float = 30.0


class Server(uvicorn.Server):
    """uvicorn, stopping in steps: not ready, no new connections, no idle ones, no work."""

    def __init__(self, app: Any, service: Service, stay: ShutdownPolicy) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(stay.grace)),
        )
        super().__init__(config)
        self._service = service
        self._stay = stay
        self._leaves_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the stop, a second skips the drain, a further one ends it."""
        if self._leaves_at is None:
            self._service.is_closing.set()
            self._leaves_at = time.monotonic() + self._stay.drain
        elif not self.should_exit:
            self._leaves_at = 0.0
        else:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether to stop."""
        if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, answer what comes on the open connections, then end them."""
        for server in self.servers:
            server.close()
        self._service.is_closing.set()
        await self._until_quiet()
        await super().shutdown(sockets)

    async def _until_quiet(self) -> None:
        """Until no request has been here for half a second, or the grace is over."""
        state = self.server_state
        ends = time.monotonic() + self._stay.grace
        quiet_since = time.monotonic()
        answered = state.total_requests
        while state.connections and not self.force_exit and time.monotonic() < ends:
            if state.tasks or state.total_requests != answered:
                answered, quiet_since = state.total_requests, time.monotonic()
            elif time.monotonic() - quiet_since >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_TICK)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a stop that was asked for is no failure: no signal is raised again."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ValueError):  # only the main thread may
                for number in (signal.SIGINT, signal.SIGTERM):
                    before = signal.signal(number, self.handle_exit)
                    stack.callback(signal.signal, number, before)
            yield


def reserve(host: str, port: int) -> socket.socket:
    """A bound socket, not listening yet; port 0 takes any that is free. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def run(
    app: Any, service: Service, listener: socket.socket, stay: ShutdownPolicy | None = None
) -> None:
    """Serve until a signal comes, and answer what was accepted."""
    Server(app, service, stay or ShutdownPolicy()).run(sockets=[listener])
