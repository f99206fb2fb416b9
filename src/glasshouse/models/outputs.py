"""What a network returned for images, and what follows from it without another pass."""

from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glasshouse.data.targets import (
    NO_LABEL,
    SEVERAL,
    Targets,
    joined_names,
    label_matrix,
    names_at,
    one_label_each,
)
from glasshouse.errors import DataError, StorageError, require_type
from glasshouse.models.conformity import COVERAGE, ConformityScores, SetMethod
from glasshouse.models.prediction_sets import PredictionSets, prediction_sets, require_scores
from glasshouse.notebook import html_for_notebook
from glasshouse.setting_errors import first_problem
from glasshouse.storage import read_tensors, write_tensors
from glasshouse.wording import percentage, pluralize

# The label of an image whose class nobody has said, such as a single file.
UNKNOWN = -1
# This many images or fewer are printed with their answers.
_FEW_IMAGES, _TOP = 5, 3


@dataclass(frozen=True)
class Predictions:
    """Raw logits ``(n, k)`` with targets and ids ``(n,)``; all metrics are pure functions of it.

    targets: as those of an ImageSet; -1 for images without a label, such as single files.
    thresholds ``(k,)``: set where an image may have several labels, each of which has a probability
    of its own; a label is predicted from this probability on. conformity: the classifier's, from
    which prediction sets follow; dropped for another temperature or number of classes, and not
    saved with predictions.
    """

    logits: NDArray[np.float32]
    targets: Targets
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    conformity: ConformityScores | None = None

    def __post_init__(self) -> None:
        scores, classes = self.conformity, self.logits.shape[-1]
        if scores is not None and not scores.fits(self.temperature, classes):
            # The only way to set a field of a frozen dataclass.
            object.__setattr__(self, "conformity", None)

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        kind = "labels" if self.is_multi_label else "classes"
        head = f"Predictions({pluralize(len(self), 'image')}, {len(self.class_names)} {kind})"
        if not 0 < len(self) <= _FEW_IMAGES:
            return head
        rows = zip(self.ids, self.probabilities, strict=True)
        return "\n".join([head, *(f"  {name}: {self._best(shares)}" for name, shares in rows)])

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have any number of labels, rather than exactly one."""
        return self.thresholds is not None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The only label of each image, ``(n,)``; raises DataError where there may be several."""
        if self.is_multi_label:
            raise DataError(SEVERAL)
        return one_label_each(self.targets)

    @property
    def label_matrix(self) -> NDArray[np.bool_]:
        """Which labels each image has, ``(n, k)``; none of an image whose labels are unknown."""
        return label_matrix(self.targets, len(self.class_names))

    @property
    def names(self) -> tuple[str, ...]:
        """The most probable class of each image; the predicted labels, with commas between them."""
        if self.is_multi_label:
            rows = self.predicted_matrix
            return tuple(
                joined_names(names_at(rows, row, self.class_names)) for row in range(len(rows))
            )
        return tuple(_class_name(self.class_names, int(k)) for k in self.logits.argmax(axis=1))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated probabilities ``(n, k)``, which add up to 1 unless there are thresholds."""
        return to_probabilities(self.logits, self.temperature, self.thresholds)

    @property
    def predicted_matrix(self) -> NDArray[np.bool_]:
        """Which labels are predicted, ``(n, k)``: by the thresholds, or the most probable one."""
        return predicted_matrix(self.probabilities, self.thresholds)

    def prediction_sets(
        self,
        *,
        coverage: float = COVERAGE,
        method: SetMethod = "lac",
        class_conditional: bool = False,
    ) -> PredictionSets:
        """The classes that each image may show, such that this share of sets has the true one.

        The share holds on average over images like those that the classifier was calibrated on;
        with class_conditional, for each class. method: as for `ConformityScores.rule`. Raises
        UsageError for a classifier without conformity scores, or with several labels per image.
        """
        scores = require_scores(self.conformity, self.thresholds)
        rule = scores.rule(coverage, method, class_conditional=class_conditional)
        return prediction_sets(self.probabilities, self.class_names, rule)

    def _best(self, shares: NDArray[np.float64]) -> str:
        found = predicted_classes(shares, self.class_names, _TOP, self.thresholds)
        return (
            ", ".join(f"{each['class']} {percentage(float(each['probability']))}" for each in found)
            or NO_LABEL
        )


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    ids: list[str]
    class_names: list[str]
    temperature: Annotated[float, Field(gt=0)]
    thresholds: list[Annotated[float, Field(gt=0)]] | None = None


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as one safetensors file; equal predictions give equal bytes."""
    tensors = {
        "logits": torch.from_numpy(predictions.logits),
        "labels": torch.from_numpy(predictions.targets),
    }
    metadata = {
        "ids": predictions.ids.tolist(),
        "class_names": list(predictions.class_names),
        "temperature": predictions.temperature,
    }
    if predictions.thresholds is not None:
        metadata["thresholds"] = list(predictions.thresholds)
    write_tensors(path, tensors, metadata)


def load_predictions(path: Path) -> Predictions:
    """Read what save_predictions wrote; raises StorageError when it is missing or damaged."""
    tensors, metadata = read_tensors(path)
    try:
        known = _Metadata.model_validate(metadata)
        logits, labels = tensors["logits"].numpy(), tensors["labels"].numpy()
    except KeyError as error:
        raise StorageError(f"{path} has no predictions: {error} is missing") from error
    except ValidationError as error:
        problem = first_problem(error, "the metadata")
        raise StorageError(f"{path} has no predictions: {problem}") from error
    ids = np.array(known.ids, dtype=np.str_)
    count, classes = len(ids), len(known.class_names)
    is_several = known.thresholds is not None
    expected = (count, classes) if is_several else (count,)
    if logits.shape != (count, classes) or labels.shape != expected:
        raise StorageError(
            f"{path} is damaged: logits {logits.shape} and labels {labels.shape} do not fit "
            f"{count} ids and {classes} classes"
        )
    if logits.dtype.kind != "f" or labels.dtype.kind != ("b" if is_several else "i"):
        raise StorageError(
            f"{path} is damaged: logits are {logits.dtype} and labels {labels.dtype}, not "
            f"floating-point numbers and {'truth values' if is_several else 'integers'}"
        )
    if not np.isfinite(logits).all():
        raise StorageError(f"{path} is damaged: some logits are NaN or infinite")
    if is_several and len(known.thresholds or ()) != classes:
        raise StorageError(
            f"{path} is damaged: {len(known.thresholds or ())} thresholds do not fit {classes} "
            "classes"
        )
    return Predictions(
        logits=logits,
        targets=labels,
        ids=ids,
        class_names=tuple(known.class_names),
        temperature=known.temperature,
        thresholds=None if known.thresholds is None else tuple(known.thresholds),
    )


def probabilities(predictions: Predictions) -> NDArray[np.float64]:
    """Calibrated probabilities ``(n, k)``: `Predictions.probabilities` as a function."""
    require_type(predictions, Predictions, "predictions, such as predict(classifier, images)")
    return predictions.probabilities


def to_probabilities(
    logits: NDArray[np.floating], temperature: float, thresholds: tuple[float, ...] | None
) -> NDArray[np.float64]:
    """Probabilities ``(n, k)`` of logits: a softmax, or a sigmoid where labels have thresholds."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return softmax(scaled) if thresholds is None else sigmoid(scaled)


def predicted_matrix(
    shares: NDArray[np.float64], thresholds: tuple[float, ...] | None
) -> NDArray[np.bool_]:
    """Which labels are predicted, ``(n, k)``, for probabilities ``(n, k)``."""
    if thresholds is None:
        return label_matrix(shares.argmax(axis=1), shares.shape[1])
    found: NDArray[np.bool_] = shares >= np.asarray(thresholds)
    return found


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The probability of each label on its own, computed in float64."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).sigmoid().numpy()


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities over the last axis, computed in float64 whatever the logits come in."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).softmax(-1).numpy()


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithms of ``softmax``, finite even where a probability underflows to 0."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).log_softmax(-1).numpy()


def most_probable(
    shares: NDArray[np.float64], class_names: tuple[str, ...], top: int
) -> list[dict[str, str | float]]:
    """The most probable classes of one image's probabilities ``(k,)``, best first.

    Each with its name and its probability rounded to six digits, as `predict` and the service
    return them.
    """
    # Not NumPy's argsort, during which other threads of a service may take over Python.
    values = shares.tolist()
    return [
        {"class": _class_name(class_names, k), "probability": round(values[k], 6)}
        for k in nlargest(top, range(len(values)), key=values.__getitem__)
    ]


def predicted_classes(
    shares: NDArray[np.float64],
    class_names: tuple[str, ...],
    top: int,
    thresholds: tuple[float, ...] | None,
) -> list[dict[str, str | float]]:
    """What an image is said to show, as `most_probable` returns it, best first.

    Without thresholds, the most probable classes; with them, every label that reaches its own,
    which may be none.
    """
    if thresholds is None:
        return most_probable(shares, class_names, top)
    count = int((shares >= np.asarray(thresholds)).sum())
    above = np.where(shares >= np.asarray(thresholds), shares, -1.0)
    return most_probable(above, class_names, count)


def _class_name(class_names: tuple[str, ...], position: int) -> str:
    """The name of a class; its number where the network came without names."""
    return class_names[position] if class_names else str(position)
