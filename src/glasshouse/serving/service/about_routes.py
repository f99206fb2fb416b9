"""The page, the health check and the metrics of a service."""

import base64
import hashlib
import re
from importlib import resources

import jinja2
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, Response

from glasshouse.serving.service.all_workers import metrics_everywhere
from glasshouse.serving.service.docs_page import docs_html
from glasshouse.serving.service.inference_protocol import require_served
from glasshouse.serving.service.responses import PROBLEMS, document_response
from glasshouse.serving.service.schemas import Health
from glasshouse.serving.service.served_models import ServedModel
from glasshouse.serving.service.service import Service

_SHOWN_CLASSES = 1000


def about_routes(service: Service) -> APIRouter:
    """GET /, /docs, /healthz and /metrics."""
    router = APIRouter(tags=["operations"])

    @router.get("/", include_in_schema=False)
    async def index(model: str | None = None) -> Response:
        loaded = service.models.loaded()
        shown = service.models.find(model) if model or not loaded else loaded[0]
        page = _page(service, shown)
        return HTMLResponse(page, headers={"Content-Security-Policy": content_policy(page)})

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        found = docs_html(request.app.openapi(), service.models.default_name)
        return HTMLResponse(found, headers={"Content-Security-Policy": content_policy(found)})

    @router.get(
        "/healthz", response_model=Health, responses=PROBLEMS, summary="Readiness of the service"
    )
    async def health() -> Response:
        require_served(service)
        return document_response(
            Health(status="ok", models=[each.name for each in service.models.loaded()])
        )

    @router.get(
        "/metrics",
        response_model=None,
        summary="Metrics for Prometheus",
        responses={
            200: {
                "description": "Metrics in the Prometheus text format.",
                "content": {CONTENT_TYPE_LATEST: {}},
            },
            **PROBLEMS,
        },
    )
    async def metrics() -> Response:
        return Response(
            await metrics_everywhere(service), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return router


def content_policy(page: str) -> str:
    """A Content-Security-Policy that allows the page's own style and script, by their hashes."""
    hashes = {
        tag: " ".join(
            "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("style", "script")
    }
    return (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "connect-src 'self'; img-src 'self' data: blob:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def _page(service: Service, model: ServedModel) -> str:
    text = resources.files(__package__) / "index.html.jinja"
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        text.read_text(encoding="utf-8")
    )
    names = model.classifier.class_names
    return template.render(
        name=model.name,
        models=[each.name for each in service.models.loaded()],
        class_names=names[:_SHOWN_CLASSES],
        class_count=len(names),
        preprocessing=model.classifier.preprocessing,
        limits=service.limits,
    )
