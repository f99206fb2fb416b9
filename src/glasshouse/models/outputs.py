"""What a network returned for images, and what follows from it without another pass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glasshouse.errors import StorageError, require_type
from glasshouse.notebook import html_for_notebook
from glasshouse.storage import read_tensors, write_tensors
from glasshouse.wording import pluralize

# The label of an image whose class nobody has said, such as a single file.
UNKNOWN = -1
# This many images or fewer are printed with their answers.
_FEW_IMAGES, _TOP = 5, 3


@dataclass(frozen=True)
class Predictions:
    """Raw logits ``(n, k)`` with labels and ids ``(n,)``; all metrics are pure functions of it.

    labels: positions in class_names; -1 for images without a label, such as single files.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        head = f"Predictions({pluralize(len(self), 'image')}, {len(self.class_names)} classes)"
        if not 0 < len(self) <= _FEW_IMAGES:
            return head
        rows = zip(self.ids, self.probabilities, strict=True)
        return "\n".join([head, *(f"  {name}: {self._best(shares)}" for name, shares in rows)])

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The most probable class of each image."""
        return tuple(_class_name(self.class_names, int(k)) for k in self.logits.argmax(axis=1))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """``softmax(logits / temperature)``, shape ``(n, k)``."""
        return softmax(self.logits.astype(np.float64) / self.temperature)

    def _best(self, shares: NDArray[np.float64]) -> str:
        best = most_probable(shares, self.class_names, _TOP)
        return ", ".join(f"{each['class']} {each['probability']:.1%}" for each in best)


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    ids: list[str]
    class_names: list[str]
    temperature: Annotated[float, Field(gt=0)]


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as one safetensors file; equal predictions give equal bytes."""
    tensors = {
        "logits": torch.from_numpy(predictions.logits),
        "labels": torch.from_numpy(predictions.labels),
    }
    metadata = {
        "ids": predictions.ids.tolist(),
        "class_names": list(predictions.class_names),
        "temperature": predictions.temperature,
    }
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
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the metadata"
        raise StorageError(f"{path} has no predictions: {key}: {problem['msg']}") from error
    ids = np.array(known.ids, dtype=np.str_)
    if logits.shape != (len(ids), len(known.class_names)) or labels.shape != (len(ids),):
        raise StorageError(
            f"{path} is damaged: logits {logits.shape} and labels {labels.shape} do not fit "
            f"{len(ids)} ids and {len(known.class_names)} classes"
        )
    if logits.dtype.kind != "f" or labels.dtype.kind != "i":
        raise StorageError(
            f"{path} is damaged: logits are {logits.dtype} and labels {labels.dtype}, not "
            "floating-point numbers and integers"
        )
    return Predictions(logits, labels, ids, tuple(known.class_names), known.temperature)


def probabilities(predictions: Predictions) -> NDArray[np.float64]:
    """``softmax(logits / temperature)``, shape ``(n, k)``."""
    require_type(predictions, Predictions, "predictions, such as predict(classifier, images)")
    return predictions.probabilities


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
    return [
        {
            "class": _class_name(class_names, int(k)),
            "probability": round(float(shares[k]), 6),
        }
        for k in shares.argsort()[::-1][:top]
    ]


def _class_name(class_names: tuple[str, ...], position: int) -> str:
    """The name of a class; its number where the network came without names."""
    return class_names[position] if class_names else str(position)
