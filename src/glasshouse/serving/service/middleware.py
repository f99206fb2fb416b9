"""What every request passes first: request id, access rules, metrics and error responses."""

import logging
import re
import secrets
import time
from collections.abc import Iterable
from itertools import count

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glasshouse.serving.service.access import AccessChecks, AccessRules
from glasshouse.serving.service.lean_route import shortcuts
from glasshouse.serving.service.problems import (
    REQUEST_ID,
    ClientLeft,
    problem_of,
    problem_response,
)
from glasshouse.serving.service.service import Service

log: logging.Logger = logging.getLogger("glasshouse.service")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_RECORDER = "response_recorder"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Of this process, and of each request in it. A random number for each would be a call of the system
# for each, and every such call lets another thread run Python first.
_PROCESS_ID = secrets.token_hex(8)
_NUMBERS = count(secrets.randbits(32))
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class RequestMiddleware:
    """Gives each request an id, checks its access, counts it, and turns failures into responses.

    Plain ASGI: Starlette's BaseHTTPMiddleware would run every request in a further task and pass
    its body through a stream of its own.
    """

    def __init__(
        self, app: ASGIApp, service: Service, rules: AccessRules, routes: Iterable[BaseRoute] = ()
    ) -> None:
        self.app = app
        self._shortcuts = shortcuts(routes, app)
        self._service = service
        self._access = AccessChecks(rules)
        # Outside the check of the key: browsers send none when they ask what they may send.
        self._handler = _with_cors(self._answer, rules.origins) if rules.origins else self._answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        own_id = headers.get("x-request-id", "")
        # An id goes into the log and the response headers: only harmless characters are taken over.
        request_id = own_id if _GOOD_ID.fullmatch(own_id) else _new_id()
        scope[REQUEST_ID] = request_id
        method = scope["method"]
        if method == "HEAD":
            # The same as GET for the routes; the server leaves out the body.
            scope = {**scope, "method": "GET"}
        response = _ResponseRecorder(send, request_id, self._service)
        scope[_RECORDER] = response
        try:
            await self._handler(scope, receive, response.send)
        except ClientLeft:
            log.info("request %s: the client left", request_id)
        finally:
            self._count(scope, method, response.status, time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The response of the application, or the problem that is in its way."""
        try:
            self._access.require(scope["path"], Headers(scope=scope))
            app = self._shortcuts.get((scope["method"], scope["path"]), self.app)
            await app(scope, receive, send)
        except ClientLeft:
            raise
        # Nothing above this can turn a failure into a response any more.
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("request %s failed", scope[REQUEST_ID])
            # Once the head is sent, the status can no longer change: the connection just ends.
            if not scope[_RECORDER].status:
                await problem_response(problem, scope)(scope, receive, send)

    def _count(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        # Labels come from the routes, never from the request: every path or method that a client
        # makes up would create another time series.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = method if method in _METHODS else "other"
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


def _new_id() -> str:
    """An id that no other request has: 32 hexadecimal digits."""
    return f"{_PROCESS_ID}{next(_NUMBERS):016x}"


def _with_cors(app: ASGIApp, origins: frozenset[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=("X-Request-ID", "Retry-After", "Inference-Header-Content-Length"),
    )
