"""Inference requests and responses of the Open Inference Protocol, with its binary extension.

https://github.com/kserve/open-inference-protocol
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.responses import Response

from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predicted_classes
from glasshouse.serving.service.input_tensors import InputImages, input_images, invalid_input
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.problems import Problem, not_valid
from glasshouse.serving.service.responses import json_response
from glasshouse.serving.service.schemas import InferRequest, InputTensor, RequestedOutput
from glasshouse.serving.service.service import Scores

OUTPUTS = ("class", "probabilities", "logits")
HEADER_LENGTH = "Inference-Header-Content-Length"
_BINARY_SIZE = "binary_data_size"


@dataclass(frozen=True)
class Asked:
    """An inference request: its document, and the images of its tensor."""

    document: InferRequest
    images: InputImages


def read_request(
    body: bytes, header_length: str | None, classifier: Classifier, limits: Limits
) -> Asked:
    """The request of a body, whose JSON part has header_length bytes; raises Problem 422."""
    text, binary = _split(body, header_length)
    try:
        asked = InferRequest.model_validate_json(text)
    except ValidationError as error:
        raise not_valid(error) from error
    tensor = asked.inputs[0]
    return Asked(
        asked, input_images(tensor, _binary_of(tensor, binary), classifier.preprocessing, limits)
    )


def infer_response(
    asked: InferRequest,
    names: Mapping[str, Any],
    answers: Sequence[Scores],
    classifier: Classifier,
) -> Response:
    """The response; names: its members that name the model and say how the input was read.

    The outputs that the request wants in binary form follow the JSON part, in their order.
    """
    outputs, binary = [], []
    for wanted in _wanted(asked):
        datatype, values = _values(wanted, answers, classifier)
        output: dict[str, Any] = {
            "name": wanted.name, "datatype": datatype, "shape": list(values.shape),
        }  # fmt: skip
        if _is_binary(wanted, asked):
            binary.append(_to_bytes(values, datatype))
            output["parameters"] = {_BINARY_SIZE: len(binary[-1])}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    document = {**names, "outputs": outputs}
    if asked.id is not None:
        document["id"] = asked.id
    if not binary:
        return json_response(document)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return Response(
        b"".join([text, *binary]),
        headers={HEADER_LENGTH: str(len(text))},
        media_type="application/octet-stream",
    )


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON part of a body, and what follows."""
    if header_length is None:
        return body, b""
    is_number = header_length.isascii() and header_length.isdecimal() and len(header_length) < 12
    if not is_number or int(header_length) > len(body):
        raise Problem(
            422, "invalid",
            f"{HEADER_LENGTH}: expected a number of bytes up to {len(body)}, the size of the "
            f"body; got {header_length[:20]!r}.",
        )  # fmt: skip
    length = int(header_length)
    if length == 0:
        raise Problem(
            422, "invalid",
            f"{HEADER_LENGTH} 0 (a tensor without JSON) is not supported: describe the tensor in "
            "JSON, or send an image file to /predict.",
        )  # fmt: skip
    return body[:length], body[length:]


def _binary_of(tensor: InputTensor, binary: bytes) -> bytes | None:
    """The binary data of the only tensor; None where its values are in the JSON part."""
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise invalid_input("shared memory is not supported: send the data in the request")
    size = parameters.get(_BINARY_SIZE)
    if size is None:
        if binary:
            raise invalid_input(
                f"{len(binary)} bytes follow the JSON part, but no tensor has {_BINARY_SIZE}"
            )
        if tensor.data is None:
            raise invalid_input(f"the tensor has neither data nor {_BINARY_SIZE}")
        return None
    if tensor.data is not None:
        raise invalid_input(f"the tensor has both data and {_BINARY_SIZE}: expected one of them")
    if size != len(binary) or isinstance(size, bool):
        raise invalid_input(
            f"{_BINARY_SIZE}: {len(binary)} bytes follow the JSON part, got {str(size)[:20]}"
        )
    return binary


def _wanted(asked: InferRequest) -> Sequence[RequestedOutput]:
    if not asked.outputs:
        return [RequestedOutput(name=name) for name in OUTPUTS]
    return list({each.name: each for each in asked.outputs}.values())


def _is_binary(wanted: RequestedOutput, asked: InferRequest) -> bool:
    usual = (asked.parameters or {}).get("binary_data_output", False)
    return (wanted.parameters or {}).get("binary_data", usual) is True


def _values(
    wanted: RequestedOutput, answers: Sequence[Scores], classifier: Classifier
) -> tuple[str, NDArray[Any]]:
    """The datatype of an output, and its values."""
    parameters = wanted.parameters or {}
    if "shared_memory_region" in parameters:
        raise Problem(422, "invalid", "outputs: shared memory is not supported")
    most = parameters.get("classification", 0)
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise Problem(422, "invalid", "outputs: classification: expected a number of classes")
    if wanted.name == "class":
        texts = [_class_text(each, classifier) for each in answers]
        return "BYTES", np.array(texts, dtype=object)
    values = np.stack([getattr(each, wanted.name) for each in answers]).astype(np.float32)
    if not most:
        return "FP32", values
    rows = [_best(row, most, classifier.class_names) for row in values]
    return "BYTES", np.array(rows, dtype=object)


def _best(values: NDArray[np.float32], most: int, names: Sequence[str]) -> list[str]:
    """The largest values as "value:number:class name", as the classification extension has it."""
    order = np.argsort(-values, kind="stable")[:most]
    return [":".join([f"{values[k]:f}", str(k), *([names[k]] if names else [])]) for k in order]


def _class_text(scores: Scores, classifier: Classifier) -> str:
    """The predicted class; several labels with "|" between them, as in a table."""
    names = classifier.class_names
    if classifier.thresholds is None:
        best = int(scores.logits.argmax())
        return names[best] if names else str(best)
    found = predicted_classes(scores.probabilities, names, 0, classifier.thresholds)
    return "|".join(str(each["class"]) for each in found)


def _to_bytes(values: NDArray[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return values.astype("<f4").tobytes()
    texts = [str(text).encode() for text in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
