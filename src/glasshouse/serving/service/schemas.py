"""Schemas of requests and responses; the OpenAPI description is generated from them."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from glasshouse.models.conformity import SetMethod
from glasshouse.models.unusual_scores import UnusualScore

Datatype = Literal[
    "BYTES", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16",
]  # fmt: skip


SETS_WORDS = "left out for a model without prediction sets"
IF_SIMILAR = "with similar=true"
# Longer strings are not names, and comparing them with the known names would take long.
Name = Annotated[str, StringConstraints(max_length=200)]


class Document(BaseModel):
    """Base of the response documents: unknown members are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", populate_by_name=True)


class ClassShare(Document):
    """A class and its probability."""

    class_name: str = Field(alias="class")
    probability: float = Field(ge=0, le=1)


class PredictionSet(Document):
    """The classes that an image may show: of such sets, the share `coverage` has the true one.

    words: the same as text, which explains a set that is empty or has every class.
    """

    coverage: float = Field(gt=0, lt=1)
    method: SetMethod
    class_conditional: bool
    classes: list[str]
    words: str


class Unfamiliarity(Document):
    """Whether an image is unlike anything that the model was trained on.

    p_value: the share of validation images that are as unusual, this image among them; null without
    any. score, value: how unusual it is, and what measures that. words: the same as text.
    """

    is_unknown: bool
    p_value: float | None
    score: UnusualScore
    value: float
    words: str


class SimilarImage(Document):
    """A training image, its label, and how far its features are, in 0..2."""

    image: str
    label: str
    distance: float


class Prediction(Document):
    """The most probable classes of one image, highest probability first."""

    image: str = Field(description="the name that the client gave the image")
    labels: list[ClassShare] | None = Field(
        default=None,
        description="where an image may have several labels: those that reach their threshold",
    )
    top: list[ClassShare]
    prediction_set: PredictionSet | None = Field(default=None, description=SETS_WORDS)
    unknown: Unfamiliarity | None = Field(default=None, description=IF_SIMILAR)
    similar: list[SimilarImage] | None = Field(default=None, description=IF_SIMILAR)
    warnings: list[str] = Field(
        default=[], description="what may make the answer wrong; left out where there is nothing"
    )


class PredictionsDocument(Document):
    """The response of /predict, in the order of the images."""

    model: str
    predictions: list[Prediction]


class MapCheck(Document):
    """The result of one sanity check of a map, in a sentence; values: one per image."""

    name: str
    verdict: Literal["good", "doubtful", "note"]
    words: str
    values: list[float]


class ExplanationMap(Document):
    """One method's map of one image, as in page.json of the command.

    rule: how gradients passed back through ReLUs; relu_operations: how many it acted on.
    targets, explained: position and name of the explained class. against: the position of the
    class that was subtracted. values: the raw signed map, rows of numbers in logit units.
    overlay_png: the map on the image, a PNG file in base64.
    """

    method: str
    rule: Literal["vanilla", "guided", "relu"]
    layer: str | None
    relu_operations: int
    targets: list[int]
    against: list[int] | None
    explained: list[str]
    notes: list[str]
    warnings: list[str]
    checks: list[MapCheck]
    values: list[list[float]] | None = None
    overlay_png: str | None = None


class ExplainedImage(Document):
    """One image: what was predicted, and its maps, which name the class that they explain."""

    image: str
    labels: list[ClassShare] | None = Field(
        default=None,
        description="where an image may have several labels: those predicted, each explained",
    )
    predicted: ClassShare
    prediction_set: PredictionSet | None = Field(default=None, description=SETS_WORDS)
    unknown: Unfamiliarity | None = Field(default=None, description=IF_SIMILAR)
    similar: list[SimilarImage] | None = Field(default=None, description=IF_SIMILAR)
    maps: list[ExplanationMap]
    warnings: list[str] = Field(
        default=[], description="what may make the answer wrong; left out where there is nothing"
    )


class Explanations(Document):
    """The response of /explain, in the order of the images."""

    model: str
    explanations: list[ExplainedImage]


class ErrorPlace(Document):
    """One of the errors of a request, and where it is."""

    where: str
    reason: str


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457); type: a stable identifier of the kind of error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[ErrorPlace] | None = None
    error: str | None = Field(default=None, description="under /v2: the same as detail")


class Health(Document):
    """Whether the service accepts requests."""

    status: Literal["ok", "closing"]
    models: list[str] = Field(description="the models that are loaded")


class ServerLive(Document):
    """Open Inference Protocol: server liveness."""

    live: bool


class ServerReady(Document):
    """Open Inference Protocol: server readiness."""

    ready: bool


class ServerMetadata(Document):
    """Open Inference Protocol: name and version of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Document):
    """Open Inference Protocol: an input or output tensor; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, str] | None = None


class ModelMetadata(Document):
    """Open Inference Protocol: inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    parameters: dict[str, str] | None = None
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(Document):
    """Open Inference Protocol: model readiness."""

    name: str
    ready: bool


class InputTensor(BaseModel):
    """Open Inference Protocol: an input tensor; values flat or nested, in row-major order.

    BYTES: image files, in JSON in base64. Others: pixels, channels first, 0 to 255; in a
    floating-point datatype or as BOOL also 0 to 1. A tensor in binary form has no `data` but the
    parameter binary_data_size.
    """

    name: str = Field(max_length=256)
    datatype: Datatype
    shape: list[int] = Field(min_length=1, max_length=8)
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """Open Inference Protocol: a requested output."""

    name: Literal["logits", "probabilities", "class"]
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """Open Inference Protocol: an inference request."""

    id: str | None = Field(default=None, max_length=256)
    parameters: dict[str, Any] | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = None


class OutputTensor(Document):
    """Open Inference Protocol: an output tensor with flat values, or its binary size."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float] | list[str] | None = None


class InferResponse(Document):
    """Open Inference Protocol: an inference response."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str] | None = Field(
        default=None, description="value_range: how pixels were read; warnings: of what to beware"
    )
    outputs: list[OutputTensor]


class IndexRequest(BaseModel):
    """Open Inference Protocol: which models to list."""

    ready: bool = Field(default=False, description="only those that are loaded")


class ModelState(Document):
    """Open Inference Protocol: a model, and whether it is loaded."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="why it is not loaded, or why its last update failed")


class RepositoryRequest(BaseModel):
    """Open Inference Protocol: how to load or unload a model; may be left out."""

    parameters: dict[str, Any] | None = None
