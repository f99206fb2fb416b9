"""What every request passes first: request id, access rules, metrics and error responses."""

import hashlib
import hmac
import logging
import re
import time
import uuid
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glasshouse.serving.service.problems import (
    REQUEST_ID,
    ClientLeft,
    Problem,
    problem_of,
    problem_response,
)
from glasshouse.serving.service.service import Service

log: logging.Logger = logging.getLogger("glasshouse.service")

# Health checks of an orchestrator carry no API key.
OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class AccessRules:
    """Which requests are accepted: those with the API key, if there is one, for an allowed host.

    hosts: accepted values of the Host header, without the port; empty accepts any. They stop DNS
    rebinding, where a page elsewhere lets its own host name resolve to this machine.
    """

    api_key: str | None = None
    hosts: frozenset[str] = frozenset()


class RequestMiddleware:
    """Gives each request an id, checks its access, counts it, and turns failures into responses.

    Plain ASGI: Starlette's BaseHTTPMiddleware would run every request in a further task and pass
    its body through a stream of its own.
    """

    def __init__(self, app: ASGIApp, service: Service, rules: AccessRules) -> None:
        self.app = app
        self._service = service
        self._hosts = rules.hosts
        self._key = None if rules.api_key is None else _digest(rules.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        own_id = headers.get("x-request-id", "")
        # An id goes into the log and the response headers: only harmless characters are taken over.
        request_id = own_id if _GOOD_ID.fullmatch(own_id) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        response = _ResponseRecorder(send, request_id, self._service)
        try:
            self._require_access(scope["path"], headers)
            await self.app(scope, receive, response.send)
        except ClientLeft:
            log.info("request %s: the client left", request_id)
        # Nothing above this can turn a failure into a response any more.
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("request %s failed", request_id)
            # Once the head is sent, the status can no longer change: the connection just ends.
            if not response.status:
                await problem_response(problem, scope)(scope, receive, response.send)
        finally:
            self._count(scope, response.status, time.monotonic() - began)

    def _require_access(self, path: str, headers: Headers) -> None:
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            raise Problem(
                421, "wrong-host",
                f"Host not allowed: expected {', '.join(sorted(self._hosts))}. Add names with "
                "--allow-host.",
            )  # fmt: skip
        if self._key is None or path in OPEN_PATHS:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Digests have one length, so that the time of the comparison reveals nothing of the key.
        if not hmac.compare_digest(_digest(given), self._key):
            raise Problem(
                401, "unauthorized",
                "Missing or invalid API key: send it as X-API-Key or as a bearer token.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Labels come from the routes, never from the request: every path or method that a client
        # makes up would create another time series.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics = self._service.metrics
        # 499, as nginx logs it: the client left before there was a response.
        metrics.requests.labels(route, method, str(status or 499)).inc()
        metrics.request_seconds.labels(route).observe(seconds)


class _ResponseRecorder:
    """Sends a response with the headers that all have in common, and remembers its status."""

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send = send
        self._request_id = request_id
        self._service = service
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
            if self._service.is_closing.is_set():
                headers["Connection"] = "close"
        await self._send(message)


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
