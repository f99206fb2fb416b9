import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service import server, uploads
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.server import Server, ShutdownPolicy, dedicate_process
from glasshouse.serving.service.service import Service, ToClassify, make_service
from glasshouse.serving.service.uploads import Upload, pixels_of
from tests.serving.service.conftest import png, running


def wait_until(happens: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, f"waited {seconds:g} s"
        time.sleep(0.005)


def request(data: bytes, path: str = "/predict") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def read_answer(connection: socket.socket) -> bytes:
    """One whole response; empty when the connection was closed before its first byte."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(("grace", "seconds"), [(0.2, 1), (1.4, 1), (30.0, 30)])
def test_accepted_requests_have_the_grace_in_whole_seconds(
    service: Service, grace: float, seconds: int
) -> None:
    server = Server(None, service, ShutdownPolicy(grace=grace))
    assert server.config.timeout_graceful_shutdown == seconds


def test_a_shutdown_loses_no_request_that_was_sent(service: Service) -> None:
    """Sixteen clients send requests without a pause while the server is stopped."""
    sent, answered, lost = [0] * 16, [0] * 16, []
    data = request(png(0))

    def call(number: int, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            while True:
                connection.sendall(data)
                sent[number] += 1
                answer = read_answer(connection)
                if not answer.startswith(b"HTTP/1.1 200"):
                    lost.append(answer)
                    return
                answered[number] += 1
                if b"connection: close" in answer.lower():
                    return

    with running(service) as server:
        callers = [threading.Thread(target=call, args=(i, server.port)) for i in range(16)]
        for caller in callers:
            caller.start()
        wait_until(lambda: bool(lost) or min(answered) > 0)
        server.stop()
        for caller in callers:
            caller.join(120)
    assert not lost, lost[:2]
    assert sent == answered and min(answered) > 0


# A small file is decoded by the thread that classifies it, a large one by another.
@pytest.mark.parametrize("is_small", [True, False])
def test_what_a_client_that_left_has_asked_for_is_not_computed(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_small: bool
) -> None:
    decoded: list[str] = []

    def note(upload: Upload, *settings: Any) -> Any:
        decoded.append(upload.name)
        return pixels_of(upload, *settings)

    monkeypatch.setattr(uploads, "pixels_of", note)
    begun, gate = threading.Event(), threading.Event()
    data = request(png(0, (20, 24) if is_small else (90, 90)))
    pixels = np.zeros((3, 16, 16), np.uint8)

    def hold() -> NDArray[np.uint8]:
        begun.set()
        gate.wait()
        return pixels

    held = ToClassify(service.models.find(), hold)
    work = service.predictor.submit(held) if is_small else service.reader.submit(hold)
    busy = threading.Thread(target=lambda: asyncio.run(work))
    with running(service) as server:
        busy.start()
        assert begun.wait(120)
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as stays:
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", server.port), timeout=120) as leaves:
                    leaves.sendall(data)
                    wait_until(lambda: service.capacity.images == 1)
                # Its place is free again although the thread is still busy.
                wait_until(lambda: service.capacity.images == 0)
            stays.sendall(data)
            wait_until(lambda: service.capacity.images == 1)
            gate.set()
            assert read_answer(stays).startswith(b"HTTP/1.1 200")
        busy.join(120)
    assert decoded == ["image"]
    counted = service.metrics.text()
    assert b'route="/predict",status="499"} 5.0' in counted


@pytest.mark.parametrize("path", ["/explain", "/predict", "/v2/models/tiny/infer"])
def test_slow_senders_keep_nobody_out(service: Service, path: str) -> None:
    capacity = service.explain_capacity if path == "/explain" else service.capacity
    whole = request(png(0), "/predict" if "infer" in path else path)
    with running(service) as server, contextlib.ExitStack() as stack:
        for _ in range(capacity.max_images + 2):
            slow = socket.create_connection(("127.0.0.1", server.port), timeout=120)
            stack.enter_context(slow).sendall(request(b"[" * 1000, path)[:-1])
        wait_until(lambda: capacity.bytes == 999 * (capacity.max_images + 2))
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(whole)
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_a_slow_request_is_answered_during_shutdown(
    service: Service,
) -> None:
    data = request(png(0))
    with running(service) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(data[:-100])
            # The request is being read.
            wait_until(lambda: service.capacity.bytes > 0)
            server.stop()
            wait_until(lambda: not any(each.is_serving() for each in server.server.servers))
            connection.sendall(data[-100:])
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        server.thread.join(120)
        assert not server.thread.is_alive()


def test_while_draining_the_server_is_not_ready_but_accepts_connections(service: Service) -> None:
    with running(service, policy=ShutdownPolicy(drain=600)) as server:
        server.stop()
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 503")
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
            connection.sendall(request(png(0)))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        server.stop()  # a second signal skips the rest of the drain


def test_under_overload_requests_are_rejected_and_the_capacity_is_released(
    classifier: Classifier,
) -> None:
    service = make_service(classifier, "tiny", Limits(max_queue=2))
    statuses: list[bytes] = []

    def call(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            for _ in range(20):
                connection.sendall(request(png(0)))
                answer = read_answer(connection)
                statuses.append(answer[9:12])
                assert answer[9:12] == b"200" or b"retry-after:" in answer

    with running(service) as server:
        callers = [threading.Thread(target=call, args=(server.port,)) for _ in range(12)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(120)
    assert len(statuses) == 240
    assert set(statuses) == {b"200", b"503"}
    assert (service.capacity.images, service.capacity.bytes) == (0, 0)


def test_a_process_of_its_own_looks_no_more_at_what_it_has_loaded() -> None:
    before = sys.getswitchinterval()
    try:
        dedicate_process()
        assert gc.get_freeze_count() > 10_000 and gc.isenabled()
        assert sys.getswitchinterval() < before
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


def test_signals_end_the_server_and_are_handled_as_before_afterwards(service: Service) -> None:
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(each) for each in both]
    stopping = Server(None, service, ShutdownPolicy())
    with stopping.capture_signals():
        assert [signal.getsignal(each) for each in both] == [stopping.handle_exit] * 2
    assert [signal.getsignal(each) for each in both] == before
    entered: list[bool] = []

    def elsewhere() -> None:
        with stopping.capture_signals():
            entered.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert entered


def test_a_port_in_use_is_an_error_and_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    usual = socket.socket

    def note(*given: Any) -> socket.socket:
        made.append(usual(*given))
        return made[-1]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(socket, "socket", note)
        with pytest.raises(OSError, match="in use"):
            server.reserve("127.0.0.1", taken.getsockname()[1])
        monkeypatch.undo()
    assert [each.fileno() for each in made] == [-1]


def test_a_service_that_is_told_nothing_has_the_usual_time_to_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    class Noted:
        def __init__(self, *given: Any) -> None:
            begun.append(given)

        def run(self, sockets: Any) -> None:
            begun.append(sockets)

    monkeypatch.setattr(server, "Server", Noted)
    monkeypatch.setattr(server, "dedicate_process", lambda: begun.append("dedicated"))
    app: Any = object()
    listener: Any = object()
    for given, policy in ((None, ShutdownPolicy()), (ShutdownPolicy(1, 2), ShutdownPolicy(1, 2))):
        server.run(app, service, listener, given)
        assert begun == ["dedicated", (app, service, policy), [listener]]
        begun.clear()
