import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from glasshouse.serving.connections import ConnectionLimits, _LimitedProtocol, limited_protocol
from tests.serving.service.test_server import read_answer, wait_until

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 32 << 20
LONG_ASK = ASK.replace(b"/", b"/long", 1)


class Answers:
    """An application that answers when its gate is open; /long sends much, /ws echoes."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        while scope["method"] == "POST":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if not message.get("more_body"):
                break
        self.begun += 1
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        body = b"x" * (LONG if scope["path"] == "/long" else 2)
        head = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})


class Server:
    """An application behind limits, in a thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.app = Answers()
        # uvicorn's own five seconds between two requests may pass on a machine that is busy.
        config = uvicorn.Config(
            self.app, http=limited_protocol(limits), log_level="critical", lifespan="off",
            timeout_keep_alive=600,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.thread.start()

    def connect(self, first: bytes = b"") -> socket.socket:
        """A new connection, which the server knows."""
        connection = self.dial(first)
        own = connection.getsockname()
        wait_until(lambda: any(each.client == own for each in self.known))
        return connection

    def dial(self, first: bytes = b"") -> socket.socket:
        """A new connection, of which the server may know nothing yet, or nothing any more."""
        connection = socket.create_connection(self.listener.getsockname(), timeout=120)
        connection.sendall(first)
        return connection

    @property
    def known(self) -> set[Any]:
        """The connections that the server knows."""
        return set(self.server.server_state.connections)


@contextlib.contextmanager
def serving(**limits: Any) -> Iterator[Server]:
    """A server with limits, stopped at the end."""
    server = Server(ConnectionLimits(**limits))
    wait_until(lambda: server.server.started)
    try:
        yield server
    finally:
        server.app.gate.set()
        server.server.force_exit = server.server.should_exit = True
        server.thread.join(120)
    assert not server.thread.is_alive()


def closes(connection: socket.socket) -> bytes:
    """What the server still sends before it closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            data += part
    return data


def is_open(connection: socket.socket) -> bool:
    """Whether the server still answers on the connection."""
    connection.sendall(ASK)
    return read_answer(connection).startswith(b"HTTP/1.1 200")


def test_a_head_that_does_not_arrive_in_time_ends_the_connection() -> None:
    with serving(head=0.2) as server:
        for first in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            with server.dial(first) as connection:
                assert closes(connection).startswith(b"HTTP/1.1 408 ")
        wait_until(lambda: not server.known)
        assert server.app.begun == 0


def test_the_time_of_a_head_begins_anew_with_every_request() -> None:
    with serving(head=600) as server, server.connect() as connection:
        assert is_open(connection)
        (protocol,) = server.known
        assert not protocol._timers
        type(protocol)._limits = ConnectionLimits(head=0.2)
        connection.sendall(b"GET")
        assert closes(connection).startswith(b"HTTP/1.1 408 ")


def test_a_byte_now_and_then_does_not_extend_the_time() -> None:
    with serving(head=0.5) as server, server.dial(b"GET / HTTP/1.1\r\nX-") as connection:
        connection.settimeout(0.05)
        # A byte that crosses the end resets the connection, which may discard the answer.
        with contextlib.suppress(ConnectionError):
            while True:
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1000)[:13] in (b"", b"HTTP/1.1 408 ")
                    break
                connection.sendall(b"a")
        assert server.app.begun == 0
        wait_until(lambda: not server.known)


def test_the_time_of_a_head_says_nothing_about_the_answer() -> None:
    with serving(head=600) as server:
        server.app.gate.clear()
        with server.connect(ASK) as connection:
            wait_until(lambda: server.app.begun == 1)
            (protocol,) = server.known
            assert not protocol._timers
            server.app.gate.set()
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_one_connection_too_many_closes_the_one_that_is_idle_for_longest() -> None:
    with serving(head=600, most=4) as server, contextlib.ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(server.connect()) for _ in range(4))
        # Its last answer counts, not the age of a connection.
        assert is_open(first)
        fifth = stack.enter_context(server.connect())
        assert closes(second) == b""
        assert all(is_open(each) for each in (third, fourth, first, fifth))
        for _ in range(20):
            stack.enter_context(server.connect())
        assert len(server.known) <= 5
        assert is_open(stack.enter_context(server.connect()))


def test_connections_that_are_answered_are_never_closed_to_make_room() -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    with serving(head=600, most=3) as server, contextlib.ExitStack() as stack:
        server.app.gate.clear()
        busy = [stack.enter_context(server.connect(ASK)) for _ in range(2)]
        wait_until(lambda: server.app.begun == 2)
        sends = stack.enter_context(server.connect(post))
        wait_until(lambda: all(each.cycle is not None for each in server.known))
        idle = stack.enter_context(server.connect())
        # Where none is idle, one that has not sent its whole request has to go.
        assert closes(sends) == b""
        idle.sendall(ASK)
        wait_until(lambda: server.app.begun == 3)
        with socket.create_connection(server.listener.getsockname(), timeout=120) as refused:
            assert closes(refused).startswith(b"HTTP/1.1 503 ")
        server.app.gate.set()
        for each in (*busy, idle):
            assert read_answer(each).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_nothing_is_dropped() -> None:
    with serving(unread=0.5) as server, server.connect(LONG_ASK) as connection:
        wait_until(lambda: server.app.begun == 1)
        wait_until(lambda: not server.known)
        assert len(closes(connection)) < LONG


def test_a_client_that_reads_slowly_has_time_for_every_part() -> None:
    class Loop:
        """A clock that is moved by hand."""

        then: Any = None

        def call_later(self, seconds: float, then: Any) -> Any:
            self.then = then
            return self

        def cancel(self) -> None:
            self.then = None

    class Transport:
        """Remembers whether it was aborted."""

        size, is_aborted = 1 << 20, False

        def get_write_buffer_size(self) -> int:
            return self.size

        def abort(self) -> None:
            self.is_aborted = True

    protocol: Any = _LimitedProtocol.__new__(_LimitedProtocol)
    protocol.loop, protocol.transport, protocol._timers = Loop(), Transport(), {}
    protocol._limits = ConnectionLimits()
    protocol._expect_reading()
    for _ in range(10):
        protocol.transport.size -= 64 << 10
        protocol.loop.then()
        assert not protocol.transport.is_aborted
    protocol.transport.size -= (64 << 10) - 1
    protocol.loop.then()
    assert protocol.transport.is_aborted


def test_a_websocket_outlives_the_time_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    upgraded: list[Any] = []
    upgrade = _LimitedProtocol.handle_websocket_upgrade

    def note(protocol: Any, *request: Any) -> None:
        upgrade(protocol, *request)
        upgraded.append(protocol)

    monkeypatch.setattr(_LimitedProtocol, "handle_websocket_upgrade", note)
    with serving(head=600, most=2) as server, contextlib.ExitStack() as stack:
        connection = stack.enter_context(server.connect(ask))
        assert connection.recv(10_000).startswith(b"HTTP/1.1 101 ")
        assert [each._timers for each in upgraded] == [{}]
        # Nor is it closed to make room.
        for _ in range(5):
            stack.enter_context(server.connect(ASK))
        connection.sendall(b"\x81\x82\0\0\0\0hi")
        assert connection.recv(100) == b"\x81\x02hi"
