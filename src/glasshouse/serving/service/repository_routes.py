"""The repository calls of the Open Inference Protocol: list, load and unload models.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from glasshouse.serving.service.access import AccessRules, require_control
from glasshouse.serving.service.all_workers import load_everywhere, unload_everywhere
from glasshouse.serving.service.inference_protocol import VERSION
from glasshouse.serving.service.problems import Problem, not_valid
from glasshouse.serving.service.responses import PROBLEMS, json_response
from glasshouse.serving.service.schemas import IndexRequest, ModelState, RepositoryRequest
from glasshouse.serving.service.service import Service
from glasshouse.serving.service.uploads import read_body


def repository_routes(service: Service, rules: AccessRules) -> APIRouter:
    """Every route under /v2/repository."""
    router = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol"])
    control: dict[str, Any] = {
        "response_model": None,
        "openapi_extra": _body("RepositoryRequest"),
        "responses": PROBLEMS,
    }

    @router.post(
        "/index",
        response_model=list[ModelState],
        openapi_extra=_body("IndexRequest"),
        responses=PROBLEMS,
        summary="Models, and which are loaded",
    )
    async def index(request: Request) -> Response:
        asked = await _asked(service, request, IndexRequest)
        states = _states(service)
        return json_response([s for s in states if not asked.ready or s["state"] == "READY"])

    @router.post("/models/{model_name}/load", summary="Load a model, or load it again", **control)
    async def load_model(request: Request, model_name: str) -> Response:
        require_control(rules, request.headers)
        asked = await _asked(service, request, RepositoryRequest)
        if asked.parameters:
            raise Problem(
                422, "invalid",
                "A model is loaded as the command line names it: expected no parameters, got "
                f"{', '.join(sorted(asked.parameters))[:200]}.",
            )  # fmt: skip
        await load_everywhere(service, model_name)
        return json_response({})

    @router.post(
        "/models/{model_name}/unload",
        summary="Unload a model; requests in flight are still answered",
        **control,
    )
    async def unload_model(request: Request, model_name: str) -> Response:
        require_control(rules, request.headers)
        await _asked(service, request, RepositoryRequest)
        await unload_everywhere(service, model_name)
        return json_response({})

    return router


async def _asked(service: Service, request: Request, kind: type[Any]) -> Any:
    """The body, which may be empty."""
    with service.capacity.enter() as slot:
        body = await read_body(request, slot, service.limits)
        try:
            return kind.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise not_valid(error) from error


def _states(service: Service) -> list[dict[str, Any]]:
    loaded = {each.name for each in service.models.loaded()}
    return [
        {
            "name": name,
            "version": VERSION,
            "state": "READY" if name in loaded else "UNAVAILABLE",
            "reason": service.models.failure(name) or ("" if name in loaded else "unloaded"),
        }
        for name in service.models.names
    ]


def _body(name: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return {"requestBody": {"required": False, "content": {"application/json": schema}}}
