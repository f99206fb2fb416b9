"""Conformity scores on disk: one small safetensors file next to the weights."""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glasshouse.errors import StorageError
from glasshouse.models.conformity import ConformityScores
from glasshouse.setting_errors import first_problem
from glasshouse.storage import read_tensors, tensors_to_bytes

CONFORMITY_FILE = "conformity.safetensors"
_TYPES = {"labels": "i4", "shares": "f8", "above": "f8", "ranks": "i4"}


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    temperature: Annotated[float, Field(gt=0)]
    class_count: Annotated[int, Field(ge=1)]
    source: str


def conformity_bytes(scores: ConformityScores) -> bytes:
    """The scores as a safetensors file, 24 bytes per image; equal scores give equal bytes."""
    tensors = {name: torch.from_numpy(getattr(scores, name)) for name in _TYPES}
    metadata = {
        "temperature": scores.temperature,
        "class_count": scores.class_count,
        "source": scores.source,
    }
    return tensors_to_bytes(tensors, metadata)


def read_conformity(path: Path) -> ConformityScores:
    """Read what `conformity_bytes` made; raises StorageError when it is missing or damaged."""
    tensors, metadata = read_tensors(path)
    try:
        known = _Metadata.model_validate(metadata)
        arrays = {name: tensors[name].numpy() for name in _TYPES}
    except ValidationError as error:
        problem = first_problem(error, "the metadata")
        raise StorageError(f"{path} has no conformity scores: {problem}") from error
    except (KeyError, TypeError) as error:
        raise StorageError(f"{path} has no conformity scores: {error}") from error
    for name, array in arrays.items():
        if array.dtype.str[1:] != _TYPES[name] or array.shape != (len(arrays["labels"]),):
            raise StorageError(f"{path} is damaged: {name} is {array.dtype} {array.shape}")
    labels, ranks = arrays["labels"], arrays["ranks"]
    are_shares = all(
        bool(((arrays[name] >= 0) & (arrays[name] <= 1 + 1e-9)).all())
        for name in ("shares", "above")
    )
    are_places = all(
        bool(((low <= values) & (values < low + known.class_count)).all())
        for low, values in ((0, labels), (1, ranks))
    )
    if not len(labels) or not are_shares or not are_places:
        raise StorageError(
            f"{path} is damaged: expected probabilities, labels and ranks of at least one image "
            f"and {known.class_count} classes"
        )
    return ConformityScores(
        labels=labels,
        shares=arrays["shares"],
        above=arrays["above"],
        ranks=ranks,
        temperature=known.temperature,
        class_count=known.class_count,
        source=known.source,
    )
