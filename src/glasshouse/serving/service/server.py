"""An HTTP server with a graceful shutdown: every accepted request is answered."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from glasshouse.serving.connections import ConnectionLimits, limited_protocol
from glasshouse.serving.service.service import Service

# After this long without a request, none is still on its way to an open connection.
_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.05
_SWITCH_SECONDS = 0.0001
BACKLOG = 2048


@dataclass(frozen=True)
class ShutdownPolicy:
    """How long a shutdown may take, in seconds.

    drain: the server reports that it is not ready but still accepts connections, so that a load
    balancer can remove it first. grace: for the requests that were accepted.
    """

    drain: float = 0.0
    grace: float = 30.0


class Server(uvicorn.Server):
    """uvicorn, shutting down in steps: not ready, listener closed, connections idle, threads."""

    def __init__(
        self,
        app: Any,
        service: Service,
        policy: ShutdownPolicy,
        connections: ConnectionLimits | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            ws="none",
            http=limited_protocol(connections or ConnectionLimits()),
            backlog=BACKLOG,
            # Longer than the 60 s after which common proxies drop an idle connection: whoever
            # closes first must not be the side that a new request is on its way to.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(policy.grace)),
        )
        super().__init__(config)
        self._service = service
        self._policy = policy
        self._stops_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the shutdown, the second skips the drain, the third forces it."""
        if self._stops_at is None:
            self._service.is_closing.set()
            self._stops_at = time.monotonic() + self._policy.drain
        elif not self.should_exit:
            self._stops_at = 0.0
        else:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times per second whether to stop."""
        if self._stops_at is not None and time.monotonic() >= self._stops_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, answer what arrives on open connections, then close them."""
        for server in self.servers:
            server.close()
        # Responses now carry "Connection: close", so callers reconnect elsewhere by themselves.
        self._service.is_closing.set()
        # uvicorn closes idle connections at once, and a request that is on its way to one would
        # be lost; so it gets to do so only after no request has come for a while.
        await self._wait_until_quiet()
        await super().shutdown(sockets)

    async def _wait_until_quiet(self) -> None:
        """Wait until no request has come for half a second, or the grace period is over."""
        state = self.server_state
        ends = time.monotonic() + self._policy.grace
        quiet_since = time.monotonic()
        answered = state.total_requests
        while state.connections and not self.force_exit and time.monotonic() < ends:
            if state.tasks or state.total_requests != answered:
                answered, quiet_since = state.total_requests, time.monotonic()
            elif time.monotonic() - quiet_since >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signal again: a requested stop is no failure."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                for number in (signal.SIGINT, signal.SIGTERM):
                    before = signal.signal(number, self.handle_exit)
                    stack.callback(signal.signal, number, before)
            yield


def reserve(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet; port 0 picks a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def dedicate_process() -> None:
    """Let a process serve what it has loaded and do nothing else."""
    # Python looks through all objects for garbage every now and then, those of torch included,
    # which takes a tenth of a second: no request has to wait for those that are there to stay.
    gc.collect()
    gc.freeze()
    # A thread that comes back from computing, as after every layer, gets to run Python after a
    # tenth of a millisecond, not after the usual five: until then, its processor does nothing.
    sys.setswitchinterval(_SWITCH_SECONDS)


def run(
    app: Any, service: Service, listener: socket.socket, policy: ShutdownPolicy | None = None
) -> None:
    """Serve until a signal arrives, and answer every accepted request; the process does no more."""
    dedicate_process()
    Server(app, service, policy or ShutdownPolicy()).run(sockets=[listener])
