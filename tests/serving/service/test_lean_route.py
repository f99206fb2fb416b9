"""Requests that are answered without FastAPI, and with it."""

from typing import Any

from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.lean_route import shortcuts
from glasshouse.serving.service.middleware import RequestMiddleware
from glasshouse.serving.service.predict_routes import predict_routes
from glasshouse.serving.service.service import Service

from .conftest import Caller, png

REQUESTS = [
    ("", {}),
    ("?top=2", {}),
    ("?top=2&top=1&model=small", {}),
    ("?top=0", {}),
    ("?top=two&coverage=0.9", {}),
    ("?" + "&".join(["top=2"] * 300), {}),
    ("", {"content-type": "text/plain"}),
    ("?model=unknown", {}),
]


def answers(app: Any) -> list[tuple[int, Any]]:
    call = Caller(app)
    found = []
    for query, headers in REQUESTS:
        response = call("POST", f"/predict{query}", content=png(0), headers=headers)
        found.append((response.status_code, {**response.json(), "request_id": ""}))
    return found


def test_an_answer_is_the_same_with_fastapi_and_without(service: Service) -> None:
    lean, plain = create_api(service), create_api(service)
    for each in plain.user_middleware:
        each.kwargs.pop("routes", None)
    assert answers(lean) == answers(plain)
    assert [status for status, _ in answers(lean)] == [200, 200, 404, 422, 422, 200, 415, 404]


async def refused(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("this request needed no FastAPI")


def test_a_request_is_answered_and_counted_without_fastapi(service: Service) -> None:
    routes = predict_routes(service).routes
    call = Caller(RequestMiddleware(refused, service, AccessRules(), routes))
    assert call("POST", "/predict", content=png(0)).status_code == 200
    assert call("POST", "/predict?top=3", content=png(0)).status_code == 200
    text = service.metrics.text().decode()
    assert 'glasshouse_requests_total{method="POST",route="/predict",status="200"} 2.0' in text


def test_only_lean_routes_are_shortened(service: Service) -> None:
    app = create_api(service)
    assert shortcuts(app.routes, app) == {}
    assert set(shortcuts(predict_routes(service).routes, app)) == {("POST", "/predict")}
