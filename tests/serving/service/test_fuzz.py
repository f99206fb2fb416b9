"""Thousands of generated requests, and paths that try to reach files."""

import socket
from collections import Counter
from typing import Any
from urllib.parse import quote

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from glasshouse.serving.service.service import Service
from tests.serving.service.conftest import png, running

Cases = st.SearchStrategy[schemathesis.Case[Any]]

UP = ("..", "....", "%2e%2e", "%252e%252e", "..%00", "..;", "%c0%ae%c0%ae", "..\\", "%2e.", ".")
SLASHES = ("/", "%2f", "%252f", "\\", "%5c")
TARGETS = ("etc/passwd", "model.safetensors")
PAYLOADS = [slash.join((up,) * 6) + slash + target
            for up in UP for slash in SLASHES for target in TARGETS]  # fmt: skip


def fuzz(service: Service, count: int) -> Counter[int]:
    """Send at least this many requests to every operation; returns the statuses."""
    statuses: Counter[int] = Counter()
    with running(service) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
        cases = [_cases_of(operation) for operation in operations]
        turn = 0
        # Some operations have but one request, so that several turns are needed.
        while statuses.total() < count:
            for each in cases:
                _ask_all(each, -(-count // len(cases)), turn, statuses)
            turn += 1
    return statuses


def _cases_of(operation: APIOperation[Any, Any, Any, Any]) -> Cases:
    # Of the names that are made up, none is the model's.
    named = {"model_name": "tiny", "version": "1"} if "{" in operation.path else None
    return st.one_of(
        operation.as_strategy(schemathesis.GenerationMode.POSITIVE, path_parameters=named),
        operation.as_strategy(schemathesis.GenerationMode.POSITIVE),
        operation.as_strategy(schemathesis.GenerationMode.NEGATIVE, path_parameters=named),
        operation.as_strategy(schemathesis.GenerationMode.NEGATIVE),
    )


def _ask_all(cases: Cases, count: int, turn: int, statuses: Counter[int]) -> None:
    @seed(turn)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def ask(case: schemathesis.Case[Any]) -> None:
        # On a busy machine, everything may stand still for minutes.
        answer = case.call(timeout=600)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        kind = answer.headers.get("content-type", [""])[0]
        assert answer.status_code < 400 or kind == "application/problem+json"
        assert answer.headers.get("x-request-id")

    ask()


def test_a_hundred_generated_requests_find_no_failure(service: Service) -> None:
    statuses = fuzz(service, 120)
    assert statuses.total() >= 120
    assert statuses[200] > 0 and statuses[422] > 0


def test_no_path_reaches_a_file(service: Service) -> None:
    assert len(PAYLOADS) == 100
    with running(service) as server:
        for payload in PAYLOADS:
            for before in ("/", "/v2/models/", "/v2/models/tiny/versions/"):
                assert _status(server.port, before + payload) in (400, 404)


def test_a_file_name_that_looks_like_a_path_is_only_a_name(service: Service) -> None:
    with running(service) as server:
        for payload in PAYLOADS[:20]:
            answer = _ask(server.port, payload)
            assert answer.startswith(b"HTTP/1.1 200") and b"root:" not in answer


def _status(port: int, path: str) -> int:
    # A client library would tidy the path.
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b"root:" not in answer
    return int(answer[9:12])


def _ask(port: int, name: str) -> bytes:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="p"; filename="'
        + quote(name, safe="/\\%.;").encode() + b'"\r\n\r\n' + png(0) + b"\r\n--b--\r\n"
    )  # fmt: skip
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(head.encode() + form)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer
