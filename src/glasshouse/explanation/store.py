"""Pages of explanations on disk, and the one JSON form of an explanation."""

import io
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.errors import StorageError, UsageError
from glasshouse.explanation.methods import ALL_METHODS
from glasshouse.explanation.nouns import (
    Check,
    Explanation,
    ExplanationPage,
    LayerChoice,
    target_name,
)
from glasshouse.explanation.page_sets import sets_of_page
from glasshouse.models.classifier import Classifier
from glasshouse.models.conformity import SetRule, rule_json, rule_of_json
from glasshouse.models.prediction_sets import set_json
from glasshouse.storage import read_array, read_json, sha256_of_bytes, write_bytes, write_json

PAGE = "page.json"
_IMAGES = "images.npy"


def save_page(
    page: ExplanationPage, folder: str | Path, classifier: Classifier | None = None
) -> tuple[Path, ...]:
    """Write page.json, the images once, and raw maps per method as .npy; returns the paths.

    classifier: the one that was explained, for the hash of its weights. Activations are not saved.
    Raises StorageError when the folder cannot be written.
    """
    folder = Path(folder)
    arrays: dict[str, NDArray[Any]] = {_IMAGES: page.images}
    for each in page.explanations:
        arrays[_maps_file(each.method)] = each.maps
        if each.channels is not None:
            arrays[_channels_file(each.method)] = each.channels
    for name, array in arrays.items():
        write_bytes(folder / name, _npy(array))
    # Last, so that a page.json stands for a complete folder.
    write_json(folder / PAGE, _page_json(page, classifier))
    return (folder / PAGE, *(folder / name for name in arrays))


def load_page(folder: str | Path) -> ExplanationPage:
    """Read what `save_page` wrote, without activations.

    Raises StorageError when a file is missing, damaged, or does not belong to the others.
    """
    return _loaded(Path(folder), None)


def load_explanation(folder: str | Path, method: str) -> Explanation:
    """One method's maps from a folder of `save_page`.

    Raises UsageError for a method that the page lacks, StorageError as `load_page`.
    """
    page = _loaded(Path(folder), method)
    if not page.explanations:
        raise UsageError(f"{Path(folder) / PAGE} holds no map of the method {method!r}")
    return page.explanations[0]


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """Everything about an explanation except its arrays, as JSON values.

    targets, explained and against have one entry per image.
    """
    against = explanation.against
    return {
        "method": explanation.method,
        "rule": explanation.rule,
        "layer": explanation.layer,
        "relu_operations": explanation.relu_operations,
        "targets": explanation.targets.tolist(),
        "against": None if against is None else against.tolist(),
        "explained": [target_name(explanation, index) for index in range(len(explanation))],
        "notes": list(explanation.notes),
        "warnings": list(explanation.warnings),
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict,
                "words": check.words,
                "values": list(check.values),
            }
            for check in explanation.checks
        ],
    }


def weights_hash(classifier: Classifier) -> str:
    """The SHA-256 of all parameters and buffers, by name, in hexadecimal."""
    parts = []
    for name, tensor in sorted(classifier.net.state_dict().items()):
        values = tensor.detach().cpu().contiguous().view(-1)
        raw = values.view(torch.uint8) if values.numel() else values
        parts.append(f"{name}{tuple(tensor.shape)}{sha256_of_bytes(raw.numpy().tobytes())}")
    return sha256_of_bytes("\n".join(parts).encode("utf-8", "backslashreplace"))


def _page_json(page: ExplanationPage, classifier: Classifier | None) -> dict[str, Any]:
    choice = page.layer_choice
    return {
        "model": page.model,
        "images": list(page.names),
        "image_sha256": [sha256_of_bytes(image.tobytes()) for image in page.images],
        "weights_sha256": None if classifier is None else weights_hash(classifier),
        "versions": {name: metadata.version(name) for name in ("glasshouse", "torch", "numpy")},
        "class_names": list(page.class_names),
        "temperature": page.temperature,
        **({} if page.thresholds is None else {"thresholds": list(page.thresholds)}),
        "precision": str(page.logits.dtype),
        **_sets_json(page),
        "logits": page.logits.tolist(),
        "layer_choice": None
        if choice is None
        else {"name": choice.name, "reason": choice.reason, "warnings": list(choice.warnings)},
        "maps": [explanation_json(each) for each in page.explanations],
    }


def _sets_json(page: ExplanationPage) -> dict[str, Any]:
    """The rule of the prediction sets, and the set of each image."""
    sets = sets_of_page(page)
    if sets is None:
        return {}
    return {
        "set_rule": rule_json(sets.rule),
        "prediction_sets": [set_json(sets, row) for row in range(len(sets))],
    }


def _thresholds(facts: dict[str, Any]) -> tuple[float, ...] | None:
    """The thresholds of the labels, where an image may have several; raises ValueError."""
    if "thresholds" not in facts:
        return None
    found = tuple(float(each) for each in facts["thresholds"])
    if len(found) != len(facts["class_names"]):
        raise ValueError(f"{len(found)} thresholds for {len(facts['class_names'])} labels")
    return found


def _loaded(folder: Path, method: str | None) -> ExplanationPage:
    """The page with all its explanations, or with those of one method only."""
    facts = read_json(folder / PAGE)
    try:
        images = read_array(folder / _IMAGES)
        # Both name what follows, and a page may come from anybody.
        if not {each["method"] for each in facts["maps"]} <= set(ALL_METHODS):
            raise ValueError("a map of an unknown method")
        if facts["precision"] not in ("float16", "float32", "float64"):
            raise ValueError(f"the precision {facts['precision']!r} is not one of numbers")
        if [sha256_of_bytes(image.tobytes()) for image in images] != facts["image_sha256"]:
            raise ValueError(f"{_IMAGES} holds other images than {PAGE} describes")
        page = ExplanationPage(
            images=images,
            logits=np.asarray(facts["logits"], dtype=facts["precision"]),
            class_names=tuple(facts["class_names"]),
            explanations=(),
            layer_choice=_layer_choice(facts["layer_choice"]),
            temperature=float(facts["temperature"]),
            thresholds=_thresholds(facts),
            names=tuple(facts["images"]),
            model=facts["model"],
            set_rule=_set_rule(facts),
        )
        found = tuple(
            _explanation(each, folder, page)
            for each in facts["maps"]
            if method in (None, each["method"])
        )
    # read_array raises EOFError, which is not an OSError, for an empty file.
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        UsageError,
    ) as error:
        raise StorageError(
            f"{folder} does not hold a complete page of explanations ({error!r}): explain again"
        ) from error
    return replace(page, explanations=found)


def _set_rule(facts: Mapping[str, Any]) -> SetRule | None:
    if "set_rule" not in facts:
        return None
    return rule_of_json(facts["set_rule"], len(facts["logits"][0]))


def _layer_choice(facts: Mapping[str, Any] | None) -> LayerChoice | None:
    if facts is None:
        return None
    return LayerChoice(facts["name"], facts["reason"], tuple(facts["warnings"]))


def _explanation(facts: Mapping[str, Any], folder: Path, page: ExplanationPage) -> Explanation:
    method, against = facts["method"], facts["against"]
    channels = folder / _channels_file(method)
    found = Explanation(
        method=method,
        maps=read_array(folder / _maps_file(method)),
        images=page.images,
        logits=page.logits,
        targets=np.asarray(facts["targets"], dtype=np.int64),
        class_names=page.class_names,
        against=None if against is None else np.asarray(against, dtype=np.int64),
        layer=facts["layer"],
        rule=facts["rule"],
        relu_operations=facts["relu_operations"],
        channels=read_array(channels) if channels.exists() else None,
        notes=tuple(facts["notes"]),
        warnings=tuple(facts["warnings"]),
        checks=tuple(
            Check(c["name"], tuple(c["values"]), c["verdict"], c["words"]) for c in facts["checks"]
        ),
    )
    counts = {len(each) for each in (found.maps, found.images, found.logits, found.targets)}
    if found.maps.ndim != 3 or len(counts) != 1:
        raise ValueError(f"{_maps_file(method)} has the shape {found.maps.shape}")
    return found


def _maps_file(method: str) -> str:
    return f"{method}.maps.npy"


def _channels_file(method: str) -> str:
    return f"{method}.channels.npy"


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
