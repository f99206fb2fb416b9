"""The service as one FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from glasshouse import __version__
from glasshouse.errors import DataError, UsageError
from glasshouse.serving.service.about_routes import about_routes
from glasshouse.serving.service.batcher import Closed
from glasshouse.serving.service.capacity import Full
from glasshouse.serving.service.explain_routes import explain_routes
from glasshouse.serving.service.inference_protocol import protocol_routes
from glasshouse.serving.service.middleware import RequestMiddleware, Rules
from glasshouse.serving.service.predict_routes import predict_routes
from glasshouse.serving.service.problems import Problem, handle
from glasshouse.serving.service.schemas import InferRequest, ProblemDocument
from glasshouse.serving.service.service import Service, close_service

_EXPLAINED = (Problem, Full, Closed, UsageError, DataError, HTTPException, RequestValidationError)


def create_api(service: Service, rules: Rules | None = None) -> FastAPI:
    """The application; the service ends with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await close_service(service)

    # FastAPI's own pages load their scripts from another host.
    app = FastAPI(
        title=f"{service.name}, served by Glasshouse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(_EXPLAINED, handle),
        redirect_slashes=False,
    )
    routers = (about_routes, predict_routes, explain_routes, protocol_routes)
    for routes in routers:
        app.include_router(routes(service))
    app.add_middleware(RequestMiddleware, service=service, rules=rules or Rules())
    app.openapi = _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> Any:
    """FastAPI's description, with the documents that no route names as its model."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        for model in (ProblemDocument, InferRequest):
            made = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(made.pop("$defs", {}))
            schemas[model.__name__] = made
        return document

    return openapi
