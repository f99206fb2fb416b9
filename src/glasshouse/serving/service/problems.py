"""Every error as an application/problem+json document (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from glasshouse.errors import BadImage, DataError, NotFinite, UsageError
from glasshouse.serving.service.batcher import Closed
from glasshouse.serving.service.capacity import Full
from glasshouse.setting_errors import in_our_words

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "request_id"


class Problem(Exception):
    """An error response; kind: a stable identifier for programs.

    headers: of the response. more: further members of the document.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})
        self.more: dict[str, Any] = dict(more or {})


class ClientLeft(Exception):
    """The connection was closed before there was a response, so none is sent."""


def problem_of(error: Exception) -> Problem:
    """Any exception as the problem that a client may see."""
    for kind, translate in _TRANSLATIONS.items():
        if isinstance(error, kind):
            found: Problem = translate(error)
            return found
    # The text of an unexpected exception may hold paths or data: it goes to the log only.
    return Problem(500, "internal", "Internal error; the service's log has the details.")


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The problem as the response to the request of a scope."""
    document = {
        "type": f"urn:glasshouse:problem:{problem.kind}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    if is_protocol_path(scope["path"]):
        # The only member that the clients of the Open Inference Protocol read.
        document["error"] = problem.detail
    if REQUEST_ID in scope:
        document[REQUEST_ID] = scope[REQUEST_ID]
    return Response(
        json.dumps(document, ensure_ascii=False),
        problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


async def handle(request: Request, error: Exception) -> Response:
    """The exception handler of the application."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        known = (error.headers or {}).get("Allow", "")
        allowed = ", ".join([known, *(["HEAD"] if known == "GET" else []), "OPTIONS"])
        error.headers = {"Allow": allowed}
        # No route has a method OPTIONS, whose answer is what the refusal of any other one says.
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=error.headers)
    return problem_response(problem_of(error), request.scope)


def is_protocol_path(path: str) -> bool:
    """Whether the Open Inference Protocol defines how errors at this path look."""
    return path == "/v2" or path.startswith("/v2/")


def overloaded(detail: str, retry_after: int) -> Problem:
    """503, with the seconds after which a retry may succeed."""
    return Problem(503, "overloaded", detail, headers={"Retry-After": str(retry_after)})


def bad_images(errors: Sequence[BadImage]) -> Problem:
    """422, with the name of each bad image and what is wrong with it."""
    found = [{"where": each.path, "reason": each.reason} for each in errors]
    detail = "; ".join(str(each) for each in errors)
    return Problem(422, "bad-image", detail, more={"errors": found})


def not_valid(error: RequestValidationError | ValidationError) -> Problem:
    """422, with the places of a request that do not fit its schema, the first twenty of them."""
    found = [
        {"where": ".".join(map(str, each["loc"])) or "body", "reason": in_our_words(each)}
        for each in error.errors()[:20]
    ]
    detail = "; ".join(f"{each['where']}: {each['reason']}" for each in found)
    return Problem(422, "invalid", detail, more={"errors": found})


def _from_http(error: HTTPException) -> Problem:
    kinds = {404: "not-found", 405: "method-not-allowed", 400: "bad-request"}
    kind = kinds.get(error.status_code, "http")
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers)


# The first that fits is taken: BadImage is a DataError and NotFinite a UsageError, so they come
# first.
_TRANSLATIONS: dict[type[Exception], Any] = {
    Problem: lambda error: error,
    HTTPException: _from_http,
    RequestValidationError: not_valid,
    Full: lambda error: overloaded(
        "The service is at capacity: too many images are in flight.", error.retry_after
    ),
    Closed: lambda error: overloaded("The service is shutting down.", 1),
    BadImage: lambda error: bad_images([error]),
    NotFinite: lambda error: Problem(500, "not-finite", str(error)),
    UsageError: lambda error: Problem(422, "invalid", str(error)),
    DataError: lambda error: Problem(422, "invalid", str(error)),
}
