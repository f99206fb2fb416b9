"""The documents that a service takes and gives; its OpenAPI description is made of them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """What all of them are: whole, and without members that nobody named."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ClassShare(Document):
    """A class and its probability."""

    class_name: str = Field(alias="class")
    probability: float = Field(ge=0, le=1)


class Prediction(Document):
    """The most probable classes of one image, best first."""

    image: str = Field(description="the name that came with the image")
    top: list[ClassShare]


class PredictionsDocument(Document):
    """The answer of /predict, in the order of the images."""

    model: str
    predictions: list[Prediction]


class MapCheck(Document):
    """Whether a map may be trusted, in plain words."""

    name: str
    verdict: Literal["good", "doubtful", "note"]
    words: str


class ExplanationMap(Document):
    """One method's map of one image.

    values: the raw signed map, rows of numbers in logit units. overlay_png: the map on the
    image, a PNG file in base64.
    """

    method: str
    layer: str | None
    notes: list[str]
    warnings: list[str]
    checks: list[MapCheck]
    values: list[list[float]] | None = None
    overlay_png: str | None = None


class ExplainedImage(Document):
    """One image: what was predicted, which class was explained, and its maps."""

    image: str
    predicted: ClassShare
    explained: str
    maps: list[ExplanationMap]


class Explanations(Document):
    """The answer of /explain, in the order of the images."""

    model: str
    explanations: list[ExplainedImage]


class ErrorPlace(Document):
    """One of several things that are wrong, and where."""

    where: str
    reason: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it; type is a name that programs can rely on."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[ErrorPlace] | None = None


class Health(Document):
    """That the process answers, and whether it takes requests."""

    status: Literal["ok", "closing"]
    model: str


class ServerLive(Document):
    """Open Inference Protocol: the server runs."""

    live: bool


class ServerReady(Document):
    """Open Inference Protocol: the server takes requests."""

    ready: bool


class ServerMetadata(Document):
    """Open Inference Protocol: who this is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Document):
    """Open Inference Protocol: a tensor that a model takes or gives; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Document):
    """Open Inference Protocol: what a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(Document):
    """Open Inference Protocol: the model takes requests."""

    name: str
    ready: bool


class InputTensor(BaseModel):
    """Open Inference Protocol: a tensor, its values flat or nested, in row-major order.

    BYTES: image files in base64. UINT8 and FP32: pixels, 0 to 255, channels first.
    """

    name: str
    datatype: Literal["BYTES", "UINT8", "FP32"]
    shape: list[int] = Field(min_length=1, max_length=8)
    parameters: dict[str, Any] | None = None
    data: list[Any]


class RequestedOutput(BaseModel):
    """Open Inference Protocol: an output that is wanted."""

    name: Literal["logits", "probabilities", "class"]
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """Open Inference Protocol: the body of infer."""

    id: str | None = Field(default=None, max_length=256)
    parameters: dict[str, Any] | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = None


class OutputTensor(Document):
    """Open Inference Protocol: a tensor of the answer, its values flat."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[str]


class InferResponse(Document):
    """Open Inference Protocol: the answer of infer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]
