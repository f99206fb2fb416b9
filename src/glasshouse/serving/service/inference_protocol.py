"""The Open Inference Protocol, version 2, over HTTP.

https://github.com/kserve/open-inference-protocol
"""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from glasshouse import __version__
from glasshouse.serving.service.infer_requests import HEADER_LENGTH, infer_response, read_request
from glasshouse.serving.service.input_tensors import IMAGES, PIXEL_DATATYPES, PIXELS
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.responses import PROBLEMS, document_response
from glasshouse.serving.service.schemas import (
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from glasshouse.serving.service.served_models import ServedModel
from glasshouse.serving.service.service import Service, score_images, while_awaited
from glasshouse.serving.service.uploads import read_body

VERSION = "1"
# Names as Triton has them, whose extensions they are.
EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
_INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    }
}


def protocol_routes(service: Service) -> APIRouter:
    """Every route under /v2."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("", response_model=ServerMetadata, responses=PROBLEMS, summary="Server metadata")
    async def server_metadata() -> Response:
        return document_response(
            ServerMetadata(name="glasshouse", version=__version__, extensions=list(EXTENSIONS))
        )

    @router.get(
        "/health/live", response_model=ServerLive, responses=PROBLEMS, summary="Server liveness"
    )
    async def server_live() -> Response:
        return document_response(ServerLive(live=True))

    @router.get(
        "/health/ready", response_model=ServerReady, responses=PROBLEMS, summary="Server readiness"
    )
    async def server_ready() -> Response:
        require_served(service)
        return document_response(ServerReady(ready=True))

    _add_model_routes(router, service)
    return router


def require_served(service: Service) -> None:
    """Raise Problem 503 for a service that is shutting down."""
    if service.is_closing.is_set():
        raise Problem(503, "closing", "The service is shutting down.")


def _add_model_routes(router: APIRouter, service: Service) -> None:
    for path in ("/models/{model_name}", "/models/{model_name}/versions/{version}"):
        # FastAPI reads the parameters of a path from the signature, so each path needs functions
        # of its own: with and without a version.
        version = "/versions/" in path
        metadata, ready, infer = _model_handlers(service, version)
        options: dict[str, Any] = {"responses": PROBLEMS}
        router.get(path, response_model=ModelMetadata, summary="Model metadata", **options)(
            metadata
        )
        router.get(
            f"{path}/ready", response_model=ModelReady, summary="Model readiness", **options
        )(ready)
        router.post(
            f"{path}/infer",
            response_model=InferResponse,
            openapi_extra=_INFER_BODY,
            summary="Inference",
            **options,
        )(infer)


def _model_handlers(service: Service, has_version: bool) -> tuple[Any, Any, Any]:
    async def metadata(model_name: str, version: str = VERSION) -> Response:
        return document_response(_metadata(_model(service, model_name, version)))

    async def ready(model_name: str, version: str = VERSION) -> Response:
        model = _model(service, model_name, version)
        require_served(service)
        return document_response(ModelReady(name=model.name, ready=True))

    async def infer(request: Request, model_name: str, version: str = VERSION) -> Response:
        return await _infer(service, _model(service, model_name, version), request)

    if has_version:
        return metadata, ready, infer

    async def metadata_any(model_name: str) -> Response:
        return await metadata(model_name)

    async def ready_any(model_name: str) -> Response:
        return await ready(model_name)

    async def infer_any(request: Request, model_name: str) -> Response:
        return await infer(request, model_name)

    return metadata_any, ready_any, infer_any


async def _infer(service: Service, model: ServedModel, request: Request) -> Response:
    limits, classifier = service.limits, model.classifier
    with service.capacity.enter() as slot:
        body = await read_body(request, slot, limits)
        slot.grow(images=1)
        async with while_awaited(request, limits.deadline, service.capacity):
            # Parsing a tensor in JSON takes long: in the event loop it would block every request.
            header_length = request.headers.get(HEADER_LENGTH)
            read = partial(read_request, body, header_length, classifier, limits)
            asked = await service.reader.submit(read)
        answers = await score_images(service, model, request, slot, asked.images.works)
    parameters = asked.images.parameters()
    names = {
        "model_name": model.name,
        "model_version": VERSION,
        **({"parameters": parameters} if parameters else {}),
    }
    return infer_response(asked.document, names, answers, classifier)


def _metadata(model: ServedModel) -> ModelMetadata:
    wanted = model.classifier.preprocessing
    classes = len(model.classifier.class_names) or -1
    pixels = [-1, 3, wanted.height, wanted.width]
    return ModelMetadata(
        name=model.name,
        versions=[VERSION],
        platform="pytorch_glasshouse",
        parameters={"inputs": "either of them: a request has one tensor"},
        inputs=[
            TensorMetadata(
                name=IMAGES,
                datatype="BYTES",
                shape=[-1],
                parameters={"content": "image files; in base64 where the tensor is in JSON"},
            ),
            TensorMetadata(
                name=PIXELS,
                datatype="UINT8",
                shape=pixels,
                parameters={
                    "content": "RGB values from 0 to 255, or fractions from 0 to 1 in a floating-"
                    "point datatype; normalisation is part of the model",
                    "datatypes": ", ".join(PIXEL_DATATYPES),
                },
            ),
        ],
        outputs=[
            TensorMetadata(name="class", datatype="BYTES", shape=[-1]),
            TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, classes]),
            TensorMetadata(name="logits", datatype="FP32", shape=[-1, classes]),
        ],
    )


def _model(service: Service, name: str, version: str) -> ServedModel:
    model = service.models.find(name)
    if version != VERSION:
        raise Problem(404, "not-found", f"Unknown version {version!r}: expected {VERSION!r}.")
    return model
