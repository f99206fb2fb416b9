"""What every request passes, around an application that does one thing."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.middleware import RequestMiddleware
from glasshouse.serving.service.problems import ClientLeft, Problem
from glasshouse.serving.service.service import Service


async def started(scope: Any, receive: Any, send: Any) -> None:
    """The head of a response, and then a failure."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("broken")


async def leaves(scope: Any, receive: Any, send: Any) -> None:
    raise ClientLeft


async def overloaded(scope: Any, receive: Any, send: Any) -> None:
    raise Problem(503, "overloaded", "later")


async def unfinished(scope: Any, receive: Any, send: Any) -> None:
    raise Problem(501, "other", "not there")


def statuses(service: Service, app: Any, rules: AccessRules | None = None) -> list[int]:
    """The status of each response that one request gets."""
    sent: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    asyncio.run(RequestMiddleware(app, service, rules or AccessRules())(scope, receive, send))
    return sent


def test_a_failure_after_the_head_of_a_response_begins_no_other(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert statuses(service, started) == [200]
    assert "failed" in caplog.text
    text = service.metrics.text().decode()
    assert 'glasshouse_requests_total{method="GET",route="unmatched",status="200"} 1.0' in text


def test_only_unexpected_failures_are_logged_as_such(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert statuses(service, overloaded) == [503]
    assert statuses(service, unfinished) == [501]
    assert statuses(service, overloaded, AccessRules(api_key="s3cret")) == [401]
    assert caplog.text == ""


def test_a_client_that_left_is_counted_as_499(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "glasshouse.service"):
        assert statuses(service, leaves) == []
    assert "the client left" in caplog.text and "failed" not in caplog.text
    text = service.metrics.text().decode()
    assert 'glasshouse_requests_total{method="GET",route="unmatched",status="499"} 1.0' in text
    (took,) = (line for line in text.splitlines() if "request_duration_seconds_sum" in line)
    assert 0 <= float(took.rpartition(" ")[2]) < 60


def test_what_is_no_request_passes_as_it_is(service: Service) -> None:
    passed: list[tuple[Any, ...]] = []

    async def app(*given: Any) -> None:
        passed.append(given)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    middleware = RequestMiddleware(app, service, AccessRules(api_key="s3cret"))
    for kind in ("lifespan", "websocket", "ftp"):
        scope = {"type": kind}
        asyncio.run(middleware(scope, nothing, nothing))
        assert passed[-1] == (scope, nothing, nothing)


def test_headers_that_a_response_has_already_stay(service: Service) -> None:
    found: list[Any] = []
    policy = {"Content-Security-Policy": "default-src 'self'"}

    async def send(message: Any) -> None:
        found.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "HEAD", "path": "/x", "headers": []}
    middleware = RequestMiddleware(PlainTextResponse("x", 200, policy), service, AccessRules())
    asyncio.run(middleware(scope, receive, send))
    headers = dict(found[0]["headers"])
    assert headers[b"content-security-policy"] == b"default-src 'self'"
    assert headers[b"referrer-policy"] == b"no-referrer" and b"connection" not in headers
    assert scope["method"] == "HEAD"
