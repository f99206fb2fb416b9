"""The service and the workbench under hostile, slow and many requests; each test prints figures."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from nicegui.testing import User

from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.serving.connections import ConnectionLimits
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import Service, make_service
from glasshouse.serving.workbench import Workbench
from tests.campaign.hostile_requests import hostile_request
from tests.journeys.command import COMMAND, LONGEST_S, own_environment
from tests.serving.conftest import visit
from tests.serving.service.conftest import CLASS_NAMES, png, running
from tests.serving.service.test_fuzz import PAYLOADS, fuzz
from tests.serving.service.test_server import read_answer, request, wait_until

CANARY = "canary-7f3a91"
_opened: set[str] = set()


@pytest.fixture
def service(tiny_net: torch.nn.Sequential) -> Service:
    classifier = Classifier(tiny_net.eval(), Preprocessing(16, 16), CLASS_NAMES, temperature=1.5)
    limits = Limits(
        max_queue=80, max_body=1 << 20, max_pixels=10_000, max_images=8, explain_images=2
    )
    return make_service(classifier, "tiny", limits)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file outside, of which it is noted when anything in this process opens it."""
    path = tmp_path / "outside" / f"{CANARY}.txt"
    path.parent.mkdir()
    path.write_text(f"the text of {CANARY}")
    (tmp_path / "runs").mkdir()
    _watch_files()
    _opened.clear()
    yield path
    assert str(path.resolve()) not in _opened


def _watch_files() -> None:
    if _watch_files.__dict__.setdefault("is_on", False):
        return
    _watch_files.__dict__["is_on"] = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and CANARY in arguments[0]:
            _opened.add(os.path.realpath(arguments[0]))

    sys.addaudithook(note)


def ask(port: int, data: bytes, *, seconds: float = 120) -> bytes:
    """What the server answers within the seconds: one whole response, or what has come by then.

    A body that is shorter than declared is waited for, so that there may be no answer; what the
    service counts shows what became of it.
    """
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=120) as connection,
        contextlib.suppress(ConnectionError, TimeoutError),
    ):
        connection.sendall(data)
        connection.settimeout(seconds)
        while not _is_whole(answer) and (part := connection.recv(65536)):
            answer += part
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and length.isdigit() and len(body) >= int(length)


def require_healthy(service: Service, port: int) -> None:
    """The service answers a normal client, and nothing that it counts is left over."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        for path in ("/predict", "/explain"):
            connection.sendall(request(png(0), path))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
    both = (service.capacity, service.explain_capacity)
    wait_until(lambda: all((each.images, each.bytes) == (0, 0) for each in both))


def be_hostile(service: Service, count: int) -> None:
    statuses: Counter[bytes] = Counter()
    with running(service) as server:
        for number in range(count):
            data = hostile_request(random.Random(f"hostile {number}"))
            answer = ask(server.port, data, seconds=0.3)
            status = answer[9:12] or b"none"
            statuses[status] += 1
            assert status in (b"none", b"503") or b"100" <= status < b"500", (number, answer)
            assert b"root:" not in answer and b"Traceback" not in answer
        require_healthy(service, server.port)
    counted = re.findall(r'status="(5\d\d)"', service.metrics.text().decode())
    assert set(counted) <= {"503"}
    print(f"{count} hostile requests:", {k.decode(): n for k, n in sorted(statuses.items())})
    assert len(statuses) > 3


def test_hostile_requests_find_no_failure(service: Service) -> None:
    be_hostile(service, 100)


@pytest.mark.slow
def test_2000_hostile_requests_find_no_failure(service: Service) -> None:
    be_hostile(service, 2000)


@pytest.mark.slow
def test_10000_generated_requests_find_no_failure(service: Service) -> None:
    statuses = fuzz(service, 10_000)
    print(f"{statuses.total()} generated requests:", dict(sorted(statuses.items())))
    assert statuses.total() >= 10_000
    assert statuses[200] > 500 and statuses[422] > 500


def test_300_traversals_of_the_service_open_no_file(service: Service, canary: Path) -> None:
    texts = Counter[bytes]()
    with running(service) as server:
        for payload in _payloads(canary):
            for before in ("/", "/v2/models/", "/docs/"):
                line = f"GET {before}{payload} HTTP/1.1\r\nHost: x\r\n\r\n"
                answer = ask(server.port, line.encode())
                texts[answer[9:12]] += 1
                assert f"the text of {CANARY}".encode() not in answer and b"root:" not in answer
    print(f"{texts.total()} traversals of the service:", dict(texts))
    assert texts.total() >= 300 and set(texts) <= {b"400", b"404"}


def test_300_traversals_of_the_workbench_open_no_file(tmp_path: Path, canary: Path) -> None:
    texts = Counter[int]()

    async def story(user: User) -> None:
        for payload in _payloads(canary):
            for before in ("/report/", "/teach/images/", "/image/0/", "/assets/"):
                answer = await user.http_client.get(before + payload)
                texts[answer.status_code] += 1
                assert f"the text of {CANARY}" not in answer.text and "root:" not in answer.text

    visit(Workbench(tmp_path / "runs", offline=True), story)
    print(f"{texts.total()} traversals of the workbench:", dict(texts))
    assert texts.total() >= 300 and set(texts) <= {404, 422}


def test_no_page_can_be_framed_or_used_by_another_site(tmp_path: Path) -> None:
    paths = ("/", "/train", "/teach", "/data", "/explain", "/compare", "/assets/workbench.css")
    hosts = (
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80@127.0.0.1",
        "localhost.",
        "",
    )
    origins = ("https://evil.example", "null", "http://127.0.0.1.evil.example", "file://")
    sites = ("cross-site", "same-site", "CROSS-SITE")
    statuses = Counter[int]()

    async def story(user: User) -> None:
        get = user.http_client.get
        for path in paths:
            own = await get(path)
            assert own.status_code == 200
            assert "frame-ancestors 'none'" in own.headers["content-security-policy"]
            assert own.headers["x-frame-options"] == "DENY"
            assert own.headers["cross-origin-resource-policy"] == "same-origin"
            strangers = [
                *({"Host": host} for host in hosts),
                *({"Origin": origin} for origin in origins),
                *({"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "iframe"} for site in sites),
                *({"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"} for site in sites),
            ]
            for headers in strangers:
                answer = await get(path, headers=headers)
                statuses[answer.status_code] += 1
                assert answer.status_code == (421 if "Host" in headers else 403), headers

    visit(Workbench(tmp_path / "runs", offline=True), story)
    print(f"{statuses.total()} requests of other sites:", dict(statuses))


def hold_connections(service: Service, idle: int, most: int) -> None:
    """Idle and slow connections, more than the service keeps, next to a normal client."""
    limits = ConnectionLimits(head=600.0, most=most)
    slow = request(b"x" * 1000, "/explain")[:-1]
    longest = 0.0
    with running(service, connections=limits) as server, contextlib.ExitStack() as stack:
        for number in range(idle):
            first = (b"", b"GET / HTTP/1.1\r\nX-", slow)[number % 3]
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
            stack.enter_context(connection)
            with contextlib.suppress(ConnectionError):
                connection.sendall(first)
            if number % 100 == 99:
                began = time.monotonic()
                require_answers(server.port)
                longest = max(longest, time.monotonic() - began)
        known = len(server.server.server_state.connections)
        print(f"{idle} idle and slow connections: {known} kept, longest answer {longest:.2f} s")
        assert known <= most + 2
    assert (service.capacity.images, service.explain_capacity.images) == (0, 0)


def require_answers(port: int) -> None:
    """A normal client gets both answers, on a new connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        for path in ("/predict", "/explain"):
            connection.sendall(request(png(0), path))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_idle_and_slow_connections_keep_nobody_out(service: Service) -> None:
    hold_connections(service, 200, most=50)


@pytest.mark.slow
def test_3000_idle_and_slow_connections_keep_nobody_out(service: Service) -> None:
    # The clients of this test have files of their own in the same process.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8000), hard))
    try:
        hold_connections(service, 3000, most=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def served(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command as its own process, and its port."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "cifar10-small", "--port", "0", "--offline"], cwd=tmp_path,
        env=own_environment(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split()[0].rstrip("/").rpartition(":")[2])
    finally:
        process.kill()
        process.communicate(timeout=LONGEST_S)


def call_often(port: int, counts: Counter[str], left: Iterator[int]) -> None:
    """Requests on one connection until none is left, or the server closes it after an answer."""
    data = request(png(0))
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S) as connection:
        for _ in left:
            connection.sendall(data)
            counts["sent"] += 1
            answer = read_answer(connection)
            counts[answer[9:12].decode() or "lost"] += 1
            if b"connection: close" in answer.lower() or not answer:
                return


@pytest.mark.slow
def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as (process, port):
        counts = [Counter[str]() for _ in range(16)]
        threads = [
            threading.Thread(target=call_often, args=(port, each, iter(range(10**9))))
            for each in counts
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: min(each["200"] for each in counts) > 5)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(LONGEST_S)
        assert process.wait(LONGEST_S) == 0
    total = sum(counts, Counter[str]())
    print("SIGTERM under the load of 16 clients:", dict(total))
    assert total["sent"] == total["200"]


def grow(tmp_path: Path, count: int, most: int) -> None:
    """Memory after the first tenth of the requests, and after all of them."""
    with served(tmp_path) as (process, port):
        memory = psutil.Process(process.pid).memory_info
        sizes, counts = [], Counter[str]()
        for part in (count // 10, count - count // 10):
            numbers = iter(range(part))
            threads = [
                threading.Thread(target=call_often, args=(port, counts, numbers)) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            sizes.append(memory().rss)
    growth = (sizes[1] - sizes[0]) / 2**20
    print(f"{dict(counts)}: {sizes[1] / 2**20:.0f} MiB, {growth:+.1f} MiB since a tenth")
    # A machine that stands still lets the time of a request run out, which is a 503.
    assert counts["200"] + counts["503"] == counts["sent"] >= count
    assert counts["503"] < count // 100
    assert growth < most


@pytest.mark.slow
def test_20000_requests_leave_the_memory_flat(tmp_path: Path) -> None:
    grow(tmp_path, 20_000, most=24)


def _payloads(canary: Path) -> list[str]:
    """The ways up of the fuzz test, to a system file and to the canary."""
    name = str(canary).lstrip("/")
    return [*PAYLOADS, *(payload.replace("etc/passwd", name) for payload in PAYLOADS[::10])]
