"""Limits of the connections to a server: how long a client may take, and how many may be open."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

# Files, pipes and sockets that a server has open in addition to its connections.
_OTHER_FILES = 100
# A client that still reads takes at least this much of a long response in the time it is given.
_READ_BYTES = 64 << 10
_NO_HEAD = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of the connections to a server; durations in seconds.

    head: from the first byte of a request, or from the start of the connection, to the end of the
    headers. unread: for the client to read another 64 KiB of a response, or the rest of it. most:
    open connections; for one more, the one that has been idle for longest is closed.
    """

    head: float = 10.0
    unread: float = 60.0
    most: int = 1000


def limited_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with limits, for the argument `http` of its configuration."""
    # Without a free file descriptor no connection is accepted, so none could make room either.
    most = min(limits.most, max(1, _file_limit() - _OTHER_FILES))
    return type("LimitedProtocol", (_LimitedProtocol,), {"_limits": replace(limits, most=most)})


class _LimitedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn itself limits the pause between two requests and the number of connections.

    Beyond that number it answers 503, which would leave the server to those who hold connections
    open without asking anything.
    """

    _limits: ConnectionLimits

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        # Not the loop's time, which uvloop knows by the millisecond only.
        self._waits_since = time.monotonic()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._start("head", self._limits.head, self._head_is_late)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Either side has closed the connection."""
        for name in tuple(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request has arrived."""
        # Not started again by the next part: a byte now and then must not extend the time.
        if not self._is_asked:
            self._start("head", self._limits.head, self._head_is_late)
        super().data_received(data)
        if self._is_asked:
            self._stop("head")

    def on_response_complete(self) -> None:
        """The next request may come."""
        self._waits_since = time.monotonic()
        super().on_response_complete()
        self._limit_closing()

    def pause_writing(self) -> None:
        """The client reads more slowly than the response is written."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """The client has read nearly everything."""
        super().resume_writing()
        self._stop("unread")

    def timeout_keep_alive_handler(self) -> None:
        """No request has come for a while."""
        super().timeout_keep_alive_handler()
        self._limit_closing()

    def handle_websocket_upgrade(self, *request: Any) -> None:
        """Another protocol takes the connection over."""
        self._stop("head")
        super().handle_websocket_upgrade(*request)

    @property
    def _is_asked(self) -> bool:
        """Whether the headers of a request have arrived that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_computing(self) -> bool:
        return self._is_asked and not self.cycle.more_body

    def _make_room(self) -> None:
        if len(self.connections) <= self._limits.most:
            return
        # Those that are being closed are on the list until the next turn of the event loop.
        known = [each for each in self.connections if not each.transport.is_closing()]
        if len(known) <= self._limits.most:
            return
        others = [
            each
            for each in known
            if isinstance(each, _LimitedProtocol) and each is not self and not each._is_computing
        ]
        if others:
            # Idle ones first, then those that still send their request.
            oldest = min(others, key=lambda each: (each._is_asked, each._waits_since))
            oldest.transport.abort()
        else:
            self.transport.write(_NO_ROOM)
            self.transport.close()

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_NO_HEAD)
            self.transport.close()
        self._limit_closing()

    def _limit_closing(self) -> None:
        # A transport that was told to close first waits until all of it is read.
        if self.transport.is_closing():
            self._expect_reading()

    def _expect_reading(self) -> None:
        before = self.transport.get_write_buffer_size()

        def look() -> None:
            self._stop("unread")
            if self.transport.get_write_buffer_size() <= before - _READ_BYTES:
                self._expect_reading()
            else:
                self.transport.abort()

        self._start("unread", self._limits.unread, look)

    def _start(self, name: str, seconds: float, then: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, then)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def _file_limit() -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return 1 << 20
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
