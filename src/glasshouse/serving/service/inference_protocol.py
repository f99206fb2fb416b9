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
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.responses import PROBLEMS, document_answer, json_answer
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
from glasshouse.serving.service.service import Answer, Service, Work, before_the_deadline, classify
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
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])

    @router.get("", response_model=ServerMetadata, responses=PROBLEMS)
    async def server_metadata() -> Response:
        return document_answer(
            ServerMetadata(name="glasshouse", version=__version__, extensions=[])
        )

    @router.get("/health/live", response_model=ServerLive, responses=PROBLEMS)
    async def server_live() -> Response:
        return document_answer(ServerLive(live=True))

    @router.get("/health/ready", response_model=ServerReady, responses=PROBLEMS)
    async def server_ready() -> Response:
        require_served(service)
        return document_answer(ServerReady(ready=True))

    _add_model_routes(router, service)
    return router


def require_served(service: Service) -> None:
    """Raise 503 for a service that is shutting down."""
    if service.is_closing.is_set():
        raise Problem(503, "closing", "The service is shutting down.")


def _add_model_routes(router: APIRouter, service: Service) -> None:
    for path in ("/models/{model_name}", "/models/{model_name}/versions/{version}"):
        # FastAPI reads the parameters of a path from the signature, so each has its own.
        version = "/versions/" in path
        about, ready, infer = _model_answers(service, version)
        options: dict[str, Any] = {"responses": PROBLEMS}
        router.get(path, response_model=ModelMetadata, **options)(about)
        router.get(f"{path}/ready", response_model=ModelReady, **options)(ready)
        router.post(
            f"{path}/infer", response_model=InferResponse, openapi_extra=_INFER_BODY, **options
        )(infer)


def _model_answers(service: Service, has_version: bool) -> tuple[Any, Any, Any]:
    async def about(model_name: str, version: str = VERSION) -> Response:
        _require_model(service, model_name, version)
        return document_answer(_metadata(service))

    async def ready(model_name: str, version: str = VERSION) -> Response:
        _require_model(service, model_name, version)
        require_served(service)
        return document_answer(ModelReady(name=service.name, ready=True))

    async def infer(request: Request, model_name: str, version: str = VERSION) -> Response:
        _require_model(service, model_name, version)
        return json_answer(await _inferred(service, request))

    if has_version:
        return about, ready, infer

    async def about_any(model_name: str) -> Response:
        return await about(model_name)

    async def ready_any(model_name: str) -> Response:
        return await ready(model_name)

    async def infer_any(request: Request, model_name: str) -> Response:
        return await infer(request, model_name)

    return about_any, ready_any, infer_any


async def _inferred(service: Service, request: Request) -> dict[str, Any]:
    with service.places.enter() as place:
        body = await read_body(request, place, service.limits)
        async with before_the_deadline(service.limits.deadline, service.places):
            # A tensor written as JSON is long: reading it would hold up everybody else.
            asked, works = await service.reader.submit(partial(_read_request, service, body))
        answers = await classify(service, place, works)
    document = {
        "model_name": service.name,
        "model_version": VERSION,
        "outputs": _outputs(asked, answers, service.classifier.class_names),
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
    """What gives each image of a tensor; raises Problem 422 for one that does not fit."""
    is_files = tensor.datatype == "BYTES"
    expected = IMAGES if is_files else PIXELS
    if tensor.name != expected:
        raise _unfit(f"an input of {tensor.datatype} is named {expected!r}, got {tensor.name!r}")
    values = _flat(tensor.data, service.limits.max_body)
    wanted = service.classifier.preprocessing
    image = () if is_files else (3, wanted.height, wanted.width)
    count = tensor.shape[0]
    if tuple(tensor.shape[1:]) not in {image, (1,) if is_files else image} or count < 1:
        raise _unfit(f"expected the shape {[-1, *image]}, got {tensor.shape}")
    if count > service.limits.max_images:
        raise _unfit(f"at most {service.limits.max_images} images, got {count}")
    if len(values) != count * math.prod(image):
        raise _unfit(f"the shape {tensor.shape} does not hold {len(values)} values")
    if is_files:
        uploads = [_upload(index, value) for index, value in enumerate(values)]
        return [partial(pixels_of, each, wanted, service.limits) for each in uploads]
    pixels = _pixels(values, tensor.datatype).reshape(count, *image)
    return [partial(_itself, each) for each in pixels]


def _flat(data: Sequence[Any], most: int) -> list[Any]:
    """The values of nested lists in row-major order."""
    values = list(data)
    while any(isinstance(value, list) for value in values):
        if not all(isinstance(value, list) for value in values) or len(values) > most:
            raise _unfit("the data is nested unevenly")
        values = [inner for value in values for inner in value]
    return values


def _pixels(values: list[Any], datatype: str) -> NDArray[Any]:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise _unfit("expected numbers")
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except OverflowError as error:
        raise _unfit("expected values from 0 to 255") from error
    # Written so that NaN fails too.
    if not ((numbers >= 0) & (numbers <= 255)).all():
        raise _unfit("expected values from 0 to 255")
    if datatype == "UINT8" and (numbers != np.rint(numbers)).any():
        raise _unfit("expected whole numbers for UINT8")
    return numbers.astype(np.uint8 if datatype == "UINT8" else np.float32)


def _upload(index: int, value: Any) -> Upload:
    name = f"{IMAGES}[{index}]"
    if not isinstance(value, str):
        raise _unfit(f"{name}: expected a file in base64, got {type(value).__name__}")
    try:
        return Upload(name, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise _unfit(f"{name}: not base64 ({error})") from error


def _itself(value: NDArray[Any]) -> NDArray[Any]:
    return value


def _outputs(
    asked: InferRequest, answers: Sequence[Answer], class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    count = len(answers)
    names = [each.name for each in asked.outputs] if asked.outputs else _OUTPUTS
    found = []
    for name in dict.fromkeys(names):
        if name == "class":
            best = [int(each.logits.argmax()) for each in answers]
            texts = [class_names[k] if class_names else str(k) for k in best]
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
            404, "not-found", f"No model {name!r} here: this service has {service.name!r}."
        )
    if version != VERSION:
        raise Problem(404, "not-found", f"No version {version!r}: there is only {VERSION!r}.")


def _unfit(reason: str) -> Problem:
    return Problem(422, "invalid", f"inputs: {reason}")
