"""What every request passes: its id, whether it may come in, and what is counted of it."""

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

from glasshouse.serving.service.problems import REQUEST_ID, Problem, answer_of, problem_of
from glasshouse.serving.service.service import Service

log = logging.getLogger("glasshouse.service")

# Whoever watches over the process has no key.
OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Rules:
    """Who may come in: api_key, if there is one, and the names under which this service is called.

    hosts: empty allows any. A page of another host that lets its own name point here (DNS
    rebinding) is told apart by the name.
    """

    api_key: str | None = None
    hosts: frozenset[str] = frozenset()


class RequestMiddleware:
    """Gives each request an id, lets it in or not, counts it, and turns failures into answers."""

    def __init__(self, app: ASGIApp, service: Service, rules: Rules) -> None:
        self.app = app
        self._service = service
        self._hosts = rules.hosts
        self._key = None if rules.api_key is None else _digest(rules.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _GOOD_ID.fullmatch(asked) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        seen = _Seen(send, request_id, self._service)
        try:
            self._require_admittance(scope["path"], headers)
            await self.app(scope, receive, seen.send)
        # The last place where a failure can still become an answer.
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("request %s failed", request_id)
            if not seen.status:
                await answer_of(problem, request_id)(scope, receive, seen.send)
        finally:
            self._count(scope, seen.status, time.monotonic() - began)

    def _require_admittance(self, path: str, headers: Headers) -> None:
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            raise Problem(
                421, "wrong-host",
                f"This service answers as {', '.join(sorted(self._hosts))}; allow other names with "
                "--allow-host.",
            )  # fmt: skip
        if self._key is None or path in OPEN_PATHS:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Digests are of one length, so that the time tells nothing of the key.
        if not hmac.compare_digest(_digest(given), self._key):
            raise Problem(
                401, "unauthorized", "Expected the API key in X-API-Key or as a bearer token.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Paths and methods that nobody serves would make a new time series each.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics = self._service.metrics
        metrics.requests.labels(route, method, str(status or 499)).inc()
        metrics.seconds.labels(route).observe(seconds)


class _Seen:
    """Passes an answer on, with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send = send
        self._request_id = request_id
        self._service = service
        self.status = 0

    async def send(self, message: Message) -> None:
        """One part of the answer."""
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
