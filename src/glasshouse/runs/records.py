"""What the JSON files of a run must hold; more keys are kept, wrong ones are a named error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from glasshouse.errors import StorageError
from glasshouse.setting_errors import first_problem
from glasshouse.storage import read_json, read_text
from glasshouse.wording import ACCURACY, PRECISION

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    # Strict: "3" or true in place of a number is damage. JSON has no NaN and infinity.
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Data(_Record):
    source: str
    source_from_run: str | None = None
    data_dir: str | None = None
    data_dir_from_run: str | None = None
    fingerprint: str
    images: dict[str, Count]
    class_names: list[str]
    several_labels: bool = False
    size: list[Count] | None = None
    notes: list[str]


class _Options(_Record):
    log: list[str] = []
    snapshots: Count = 0
    weights: str | None = None
    offline: bool = False


class EnvironmentFile(_Record):
    """environment.json."""

    versions: dict[str, str]
    system: str
    processor: str
    threads: Annotated[int, Field(ge=1, le=1024)]
    thread_rates: dict[str, Annotated[float, Field(ge=0)]] | None = None
    device: str
    precision: str
    started: str
    command: str
    options: _Options | None = None
    data: _Data
    budget: dict[str, Any] | None = None


class EpochLine(_Record):
    """One line of metrics.jsonl."""

    epoch: Annotated[int, Field(ge=1)]
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: Seconds
    images_per_second: float


class _Share(_Record):
    value: float
    low: float
    high: float


class _Calibration(_Record):
    loss: float


class _LabelMetrics(_Record):
    name: str
    threshold: float


class EvaluationFile(_Record):
    """evaluation.json: with one label per image top_k and confusion, with several per_label."""

    image_count: Count
    class_names: list[str]
    accuracy: _Share
    before: _Calibration
    top_k: list[dict[str, Any]] | None = None
    confusion: list[list[Count]] | None = None
    per_label: list[_LabelMetrics] | None = None
    mean_average_precision: _Share | None = None

    @model_validator(mode="after")
    def _has_its_metrics(self) -> "EvaluationFile":
        single = self.top_k is not None and self.confusion is not None
        several = self.per_label is not None and self.mean_average_precision is not None
        if not (single or several):
            raise ValueError("top_k and confusion, or per_label, are missing")
        return self


class HeadsFile(_Record):
    """heads.json."""

    heads: Annotated[list[dict[str, Any]], Field(min_length=1)]
    feature_seconds: Seconds
    head_seconds: Seconds


class FinderFile(_Record):
    """finder.json."""

    lr: Annotated[float, Field(gt=0)]
    schedule: dict[str, Any]
    verdict: str
    seconds: Seconds
    curve: dict[str, Any]


class VerdictFile(_Record):
    """shortcuts.json, groups.json and map.json, as far as they are read again."""

    verdict: str


class _MapGroup(_Record):
    name: str
    images: list[str]


class MapGroupsFile(_Record):
    """map-groups.json."""

    groups: list[_MapGroup]


class TrialFile(_Record):
    """trial.json; value: of the metric on the validation split, None where it was not reached."""

    value: float | None
    epochs: Count


class CostFile(_Record):
    """cost.json; training_flop: its floating-point operations, which older runs do not have."""

    training_flop: Count | None = None
    peak_memory_bytes: Count


def main_metric(evaluation: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """The name of the metric that a run is judged by, and its value with low and high.

    evaluation: the document evaluation.json.
    """
    # The share of images with all labels right would read as an accuracy, and mislead as one.
    precision = evaluation.get("mean_average_precision")
    return (ACCURACY, evaluation["accuracy"]) if precision is None else (PRECISION, precision)


def read_run_file(path: Path, shape: type[_Record]) -> dict[str, Any]:
    """The document as it is, once it has been checked; raises StorageError that names the key."""
    document: dict[str, Any] = read_json(path)
    _require(document, shape, path)
    return document


def read_epoch_lines(path: Path) -> tuple[dict[str, Any], ...]:
    """The lines of metrics.jsonl, none when it is missing; raises StorageError for damage."""
    if not path.is_file():
        return ()
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            lines.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{path} is damaged: line {number}: {error}") from error
        _require(lines[-1], EpochLine, path)
    return tuple(lines)


def _require(document: object, shape: type[_Record], path: Path) -> None:
    try:
        shape.model_validate(document)
    except ValidationError as error:
        problem = first_problem(error, "the document")
        raise StorageError(f"{path} is damaged: {problem}") from error
