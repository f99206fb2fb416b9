"""Exceptions as documents."""

import asyncio
import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from glasshouse.errors import BadImage, DataError, NotFinite, UsageError
from glasshouse.serving.service.batcher import Closed
from glasshouse.serving.service.capacity import Full
from glasshouse.serving.service.problems import Problem, handle, problem_of, problem_response


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"),
    [
        (HTTPException(404), 404, "not-found", {}),
        (HTTPException(405), 405, "method-not-allowed", {}),
        (HTTPException(400), 400, "bad-request", {}),
        (HTTPException(403), 403, "http", {}),
        (HTTPException(406, headers={"A": "b"}), 406, "http", {"A": "b"}),
        (Full(7), 503, "overloaded", {"Retry-After": "7"}),
        (Closed(), 503, "overloaded", {"Retry-After": "1"}),
        (BadImage("a.png", "broken"), 422, "bad-image", {}),
        (NotFinite("NaN"), 500, "not-finite", {}),
        (UsageError("wrong"), 422, "invalid", {}),
        (DataError("wrong"), 422, "invalid", {}),
        (Problem(418, "teapot", "tea", headers={"A": "b"}), 418, "teapot", {"A": "b"}),
        (ValueError("secret"), 500, "internal", {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_exception_has_a_status_and_a_kind(
    error: Exception, status: int, kind: str, headers: dict[str, str]
) -> None:
    found = problem_of(error)
    assert (found.status, found.kind, found.headers) == (status, kind, headers)
    assert found.detail and "secret" not in found.detail
    # Two problems share nothing that one of them could change.
    assert found.headers is not Problem(400, "x", "y").headers


@pytest.mark.parametrize(
    ("path", "has_error"),
    [("/v2", True), ("/v2/models", True), ("/v3", False), ("/v", False), ("/a", False)],
)
def test_the_document_of_a_problem(path: str, has_error: bool) -> None:
    problem = Problem(404, "not-found", "no \N{SNOWMAN}", more={"errors": []})
    answer = problem_response(problem, {"path": path})
    assert answer.status_code == 404 and "\N{SNOWMAN}".encode() in bytes(answer.body)
    expected: dict[str, Any] = {
        "type": "urn:glasshouse:problem:not-found", "title": "Not Found", "status": 404,
        "detail": "no \N{SNOWMAN}", "errors": [],
    }  # fmt: skip
    expected |= {"error": "no \N{SNOWMAN}"} if has_error else {}
    assert json.loads(bytes(answer.body)) == expected
    named = problem_response(problem, {"path": path, "request_id": "a1"})
    assert json.loads(bytes(named.body)) == expected | {"request_id": "a1"}


@pytest.mark.parametrize(
    ("method", "error", "status", "allowed"),
    [
        ("OPTIONS", HTTPException(405, headers={"Allow": "GET"}), 204, "GET, HEAD, OPTIONS"),
        ("OPTIONS", HTTPException(405, headers={"Allow": "POST"}), 204, "POST, OPTIONS"),
        ("DELETE", HTTPException(405, headers={"Allow": "GET"}), 405, "GET, HEAD, OPTIONS"),
        ("POST", HTTPException(405, headers={"Allow": "DELETE"}), 405, "DELETE, OPTIONS"),
        ("OPTIONS", HTTPException(404), 404, None),
        ("OPTIONS", HTTPException(406), 406, None),
        ("DELETE", Problem(405, "x", "y"), 405, None),
    ],
    ids=str,
)
def test_a_method_that_a_path_does_not_have(
    method: str, error: Exception, status: int, allowed: str | None
) -> None:
    request = Request({"type": "http", "method": method, "path": "/x", "headers": []})
    answer = asyncio.run(handle(request, error))
    assert (answer.status_code, answer.headers.get("allow")) == (status, allowed)
    assert (answer.body == b"") == (status == 204)
