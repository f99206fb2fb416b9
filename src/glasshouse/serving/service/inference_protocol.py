"""The Open Inference Protocol, version 2, over HTTP and JSON.

https://github.com/kserve/open-inference-protocol
"""

import base64
import binascii
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.responses import Response

from glasshouse import __version__
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predicted_classes
from glasshouse.serving.service.batcher import Work
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.responses import PROBLEMS, document_response, json_response
from glasshouse.serving.service.schemas import (
    InferRequest,
    InferResponse,
    InputTensor,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from glasshouse.serving.service.service import Scores, Service, score_images, while_awaited
from glasshouse.serving.service.uploads import Upload, pixels_of, read_body

VERSION = "1"
IMAGES, PIXELS = "images", "pixels"
_OUTPUTS = ("class", "probabilities", "logits")
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
            ServerMetadata(name="glasshouse", version=__version__, extensions=[])
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
        _require_model(service, model_name, version)
        return document_response(_metadata(service))

    async def ready(model_name: str, version: str = VERSION) -> Response:
        _require_model(service, model_name, version)
        require_served(service)
        return document_response(ModelReady(name=service.name, ready=True))

    async def infer(request: Request, model_name: str, version: str = VERSION) -> Response:
        _require_model(service, model_name, version)
        return json_response(await _infer(service, request))

    if has_version:
        return metadata, ready, infer

    async def metadata_any(model_name: str) -> Response:
        return await metadata(model_name)

    async def ready_any(model_name: str) -> Response:
        return await ready(model_name)

    async def infer_any(request: Request, model_name: str) -> Response:
        return await infer(request, model_name)

    return metadata_any, ready_any, infer_any


async def _infer(service: Service, request: Request) -> dict[str, Any]:
    with service.capacity.enter() as slot:
        body = await read_body(request, slot, service.limits)
        slot.grow(images=1)
        async with while_awaited(request, service.limits.deadline, service.capacity):
            # Parsing a tensor in JSON takes long: in the event loop it would block every request.
            asked, works = await service.reader.submit(partial(_read_request, service, body))
        answers = await score_images(service, request, slot, works)
    document = {
        "model_name": service.name,
        "model_version": VERSION,
        "outputs": _outputs(asked, answers, service.classifier),
    }
    return document if asked.id is None else {**document, "id": asked.id}


def _read_request(service: Service, body: bytes) -> tuple[InferRequest, list[Work]]:
    try:
        asked = InferRequest.model_validate_json(body)
    except ValidationError as error:
        found = [
            {"where": ".".join(str(part) for part in each["loc"]), "reason": each["msg"]}
            for each in error.errors(include_url=False)[:20]
        ]
        detail = "; ".join(f"{each['where'] or 'body'}: {each['reason']}" for each in found)
        raise Problem(422, "invalid", detail, more={"errors": found}) from error
    return asked, _works(service, asked.inputs[0])


def _works(service: Service, tensor: InputTensor) -> list[Work]:
    """A function per image of a tensor; raises Problem 422 for a tensor that does not fit."""
    is_files = tensor.datatype == "BYTES"
    expected = IMAGES if is_files else PIXELS
    if tensor.name != expected:
        raise _invalid_input(
            f"expected the name {expected!r} for datatype {tensor.datatype}, got {tensor.name!r}"
        )
    values = _flat(tensor.data, service.limits.max_body)
    wanted = service.classifier.preprocessing
    image = () if is_files else (3, wanted.height, wanted.width)
    count = tensor.shape[0]
    if tuple(tensor.shape[1:]) not in {image, (1,) if is_files else image} or count < 1:
        raise _invalid_input(f"expected the shape {[-1, *image]}, got {tensor.shape}")
    if count > service.limits.max_images:
        raise _invalid_input(f"at most {service.limits.max_images} images, got {count}")
    if len(values) != count * math.prod(image):
        raise _invalid_input(
            f"the shape {tensor.shape} needs {count * math.prod(image)} values, got {len(values)}"
        )
    if is_files:
        uploads = [_upload(index, value) for index, value in enumerate(values)]
        return [partial(pixels_of, each, wanted, service.limits) for each in uploads]
    pixels = _pixels(values, tensor.datatype).reshape(count, *image)
    return [partial(np.asarray, each) for each in pixels]


def _flat(data: Sequence[Any], most: int) -> list[Any]:
    """The values of nested lists in row-major order."""
    values = list(data)
    while any(isinstance(value, list) for value in values):
        if not all(isinstance(value, list) for value in values) or len(values) > most:
            raise _invalid_input("the data is not nested evenly")
        values = [inner for value in values for inner in value]
    return values


def _pixels(values: list[Any], datatype: str) -> NDArray[Any]:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise _invalid_input("expected numbers")
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except OverflowError as error:
        raise _invalid_input("expected values from 0 to 255") from error
    # Written as "not all within" because NaN compares false to everything and must fail.
    if not ((numbers >= 0) & (numbers <= 255)).all():
        raise _invalid_input("expected values from 0 to 255")
    if datatype == "UINT8" and (numbers != np.rint(numbers)).any():
        raise _invalid_input("expected whole numbers for UINT8")
    return numbers.astype(np.uint8 if datatype == "UINT8" else np.float32)


def _upload(index: int, value: Any) -> Upload:
    name = f"{IMAGES}[{index}]"
    if not isinstance(value, str):
        raise _invalid_input(f"{name}: expected a file in base64, got {type(value).__name__}")
    try:
        return Upload(name, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise _invalid_input(f"{name}: not base64 ({error})") from error


def _class_text(scores: Scores, classifier: Classifier) -> str:
    """The predicted class; several labels with "|" between them, as in a table."""
    names = classifier.class_names
    if classifier.thresholds is None:
        best = int(scores.logits.argmax())
        return names[best] if names else str(best)
    found = predicted_classes(scores.probabilities, names, 0, classifier.thresholds)
    return "|".join(str(each["class"]) for each in found)


def _outputs(
    asked: InferRequest, answers: Sequence[Scores], classifier: Classifier
) -> list[dict[str, Any]]:
    count = len(answers)
    names = [each.name for each in asked.outputs] if asked.outputs else _OUTPUTS
    found = []
    for name in dict.fromkeys(names):
        if name == "class":
            texts = [_class_text(each, classifier) for each in answers]
            found.append({"name": name, "datatype": "BYTES", "shape": [count], "data": texts})
            continue
        values = np.stack([getattr(each, name) for each in answers]).astype(np.float32)
        shape = list(values.shape)
        numbers = values.ravel().tolist()
        found.append({"name": name, "datatype": "FP32", "shape": shape, "data": numbers})
    return found


def _metadata(service: Service) -> ModelMetadata:
    wanted = service.classifier.preprocessing
    classes = len(service.classifier.class_names) or -1
    pixels = [-1, 3, wanted.height, wanted.width]
    return ModelMetadata(
        name=service.name,
        versions=[VERSION],
        platform="pytorch_glasshouse",
        inputs=[
            TensorMetadata(name=IMAGES, datatype="BYTES", shape=[-1]),
            TensorMetadata(name=PIXELS, datatype="UINT8", shape=pixels),
            TensorMetadata(name=PIXELS, datatype="FP32", shape=pixels),
        ],
        outputs=[
            TensorMetadata(name="class", datatype="BYTES", shape=[-1]),
            TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, classes]),
            TensorMetadata(name="logits", datatype="FP32", shape=[-1, classes]),
        ],
    )


def _require_model(service: Service, name: str, version: str) -> None:
    if name != service.name:
        raise Problem(
            404, "not-found", f"Unknown model {name!r}: this service has {service.name!r}."
        )
    if version != VERSION:
        raise Problem(404, "not-found", f"Unknown version {version!r}: expected {VERSION!r}.")


def _invalid_input(reason: str) -> Problem:
    return Problem(422, "invalid", f"inputs: {reason}")
