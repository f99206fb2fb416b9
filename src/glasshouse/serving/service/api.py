"""The prediction service as one FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from glasshouse import __version__
from glasshouse.errors import DataError, UsageError
from glasshouse.serving.service.about_routes import about_routes
from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.all_workers import answer_worker, join_others
from glasshouse.serving.service.batcher import Closed
from glasshouse.serving.service.capacity import Full
from glasshouse.serving.service.explain_routes import explain_routes
from glasshouse.serving.service.inference_protocol import protocol_routes
from glasshouse.serving.service.middleware import RequestMiddleware
from glasshouse.serving.service.model_loading import keep_up_to_date
from glasshouse.serving.service.predict_routes import predict_routes
from glasshouse.serving.service.problems import Problem, handle
from glasshouse.serving.service.repository_routes import repository_routes
from glasshouse.serving.service.schemas import (
    IndexRequest,
    InferRequest,
    ProblemDocument,
    RepositoryRequest,
)
from glasshouse.serving.service.service import Service, close_service

_HANDLED = (Problem, Full, Closed, UsageError, DataError, HTTPException, RequestValidationError)


def create_api(service: Service, rules: AccessRules | None = None) -> FastAPI:
    """The application; its shutdown closes the service."""
    rules = rules or AccessRules()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(keep_up_to_date(service))
        async with AsyncExitStack() as stack:
            if service.peers is not None:
                answer = partial(answer_worker, service)
                await stack.enter_async_context(await service.peers.listen(answer))
                # Now that it hears what the others do, nothing is missed.
                await join_others(service)
                service.peers.is_ready(described_models(service))
            yield
        watcher.cancel()
        await close_service(service)

    # FastAPI's documentation pages load their scripts from another host; /docs is a page of ours.
    app = FastAPI(
        title=f"{', '.join(service.models.names)}: image classification",
        description="Predictions and explanations of image classifiers, served by Glasshouse.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(_HANDLED, handle),
        redirect_slashes=False,
    )
    routers = (
        *(routes(service)
          for routes in (about_routes, predict_routes, explain_routes, protocol_routes)),
        repository_routes(service, rules),
    )  # fmt: skip
    for router in routers:
        app.include_router(router)
    found = [route for router in routers for route in router.routes]
    app.add_middleware(RequestMiddleware, service=service, rules=rules, routes=found)
    app.openapi = _openapi_with_schemas(app)  # type: ignore[method-assign]
    _build_routes(app)
    return app


def described_models(service: Service) -> str:
    """The loaded models in a few words."""
    return ", ".join(
        f"{each.name}, {len(each.classifier.class_names)} classes"
        for each in service.models.loaded()
    )


def _build_routes(app: FastAPI) -> None:
    """Build every route now; newer versions of FastAPI would do so at the first request.

    That takes long, and hides a warning meanwhile in a way that other threads can undo.
    """
    nowhere = {"type": "http", "method": "GET", "path": "/\0", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


def _openapi_with_schemas(app: FastAPI) -> Any:
    """FastAPI's description with the schemas that routes refer to by name only."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        for model in (ProblemDocument, InferRequest, IndexRequest, RepositoryRequest):
            made = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(made.pop("$defs", {}))
            schemas[model.__name__] = made
        return document

    return openapi
