"""The noun of this layer: raw maps with what was explained, on disk and in a notebook."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.errors import StorageError
from glasshouse.explanation.maps.cam import enlarge
from glasshouse.models.classifier import Classifier
from glasshouse.storage import read_json, sha256_of_bytes, write_bytes, write_json

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Check:
    """One answer to "may I trust this map?": a figure for each image, and plain words.

    verdict: good, doubtful, or a note without judgement.
    """

    name: str
    values: tuple[float, ...]
    verdict: Literal["good", "doubtful", "note"]
    words: str


@dataclass(frozen=True)
class Explanation:
    """Why the net gave these images these scores: raw signed maps, and what was explained.

    maps ``(n, h, w)``, in logit units (saliency: logits per unit of input), in the image's size
    or, for a class activation map, the layer's own. channels ``(n, 3, h, w)``: the signed values
    per colour that maps were made from, where there are some. targets ``(n,)``: the explained
    classes; against: the classes that were subtracted, if any. relu_operations: how many a rule
    acted on. notes and warnings are plain sentences.
    """

    method: str
    maps: Floats
    images: NDArray[np.uint8]
    logits: Floats
    targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    against: NDArray[np.int64] | None = None
    layer: str | None = None
    rule: str = "vanilla"
    relu_operations: int = 0
    channels: Floats | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return len(self.maps)

    def _repr_png_(self) -> bytes:
        from glasshouse.explanation.draw.cells import draw_explanation, to_png

        return to_png(draw_explanation(self))

    def _repr_html_(self) -> str:
        from glasshouse.explanation.draw.cells import to_html

        return to_html(self._repr_png_(), (*self.warnings, *(c.words for c in self.checks)))


def target_name(explanation: Explanation, index: int) -> str:
    """What is explained in one image, for example "cat" or "cat rather than dog"."""
    name = _class_name(explanation, int(explanation.targets[index]))
    if explanation.against is None:
        return name
    return f"{name} rather than {_class_name(explanation, int(explanation.against[index]))}"


def shown(explanation: Explanation) -> Floats:
    """The maps as they are drawn, in the image's size ``(n, h, w)``.

    Of a class activation map this is the part that speaks for the class; contrasts and maps of
    the image's own size stay signed.
    """
    if explanation.layer is None:
        return explanation.maps
    height, width = explanation.images.shape[2:]
    if explanation.maps.shape[1:] == (height, width) and explanation.channels is not None:
        return explanation.maps
    maps = torch.from_numpy(np.array(explanation.maps))
    if explanation.against is None:
        maps = maps.clamp(min=0)
    enlarged: Floats = enlarge(maps, height, width).numpy()
    return enlarged


def save_explanation(
    explanation: Explanation, folder: Path, classifier: Classifier | None = None
) -> Path:
    """Write raw maps as .npy and a JSON record beside them; returns the record's path.

    classifier: the one that was explained, for the hash of its weights in the record.
    """
    stem = explanation.method
    arrays = {"maps": explanation.maps, "channels": explanation.channels}
    for name, array in arrays.items():
        if array is not None:
            write_bytes(folder / f"{stem}.{name}.npy", _npy(array))
    write_bytes(folder / f"{stem}.images.npy", _npy(explanation.images))
    path = folder / f"{stem}.json"
    write_json(path, {**_facts(explanation), "weights_sha256": _weights_hash(classifier)})
    return path


def load_explanation(path: Path) -> Explanation:
    """Read what `save_explanation` wrote; raises StorageError when a file is missing or damaged."""
    facts = read_json(path)
    try:
        return _explanation(facts, path.parent)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise StorageError(f"{path} is not a whole record of an explanation: {error}") from error


def weights_hash(classifier: Classifier) -> str:
    """The SHA-256 of all parameters and buffers, by name, in hexadecimal."""
    parts = []
    for name, tensor in sorted(classifier.net.state_dict().items()):
        values = tensor.detach().cpu().contiguous().view(-1)
        raw = values.view(torch.uint8) if values.numel() else values
        parts.append(f"{name}{tuple(tensor.shape)}{sha256_of_bytes(raw.numpy().tobytes())}")
    return sha256_of_bytes("\n".join(parts).encode())


def _facts(explanation: Explanation) -> dict[str, Any]:
    names = explanation.class_names
    against = explanation.against
    return {
        "method": explanation.method,
        "rule": explanation.rule,
        "layer": explanation.layer,
        "relu_operations": explanation.relu_operations,
        "targets": explanation.targets.tolist(),
        "target_names": [target_name(explanation, i) for i in range(len(explanation))],
        "against": None if against is None else against.tolist(),
        "class_names": list(names),
        "logits": explanation.logits.tolist(),
        "image_sha256": [sha256_of_bytes(p.tobytes()) for p in explanation.images],
        "notes": list(explanation.notes),
        "warnings": list(explanation.warnings),
        "checks": [
            {f.name: _plain(getattr(check, f.name)) for f in fields(check)}
            for check in explanation.checks
        ],
        "versions": {name: metadata.version(name) for name in ("glasshouse", "torch", "numpy")},
    }


def _explanation(facts: Mapping[str, Any], folder: Path) -> Explanation:
    stem = facts["method"]
    channels = folder / f"{stem}.channels.npy"
    maps = np.load(folder / f"{stem}.maps.npy", allow_pickle=False)
    against = facts["against"]
    return Explanation(
        method=stem,
        maps=maps,
        images=np.load(folder / f"{stem}.images.npy", allow_pickle=False),
        logits=np.asarray(facts["logits"], dtype=maps.dtype),
        targets=np.asarray(facts["targets"], dtype=np.int64),
        class_names=tuple(facts["class_names"]),
        against=None if against is None else np.asarray(against, dtype=np.int64),
        layer=facts["layer"],
        rule=facts["rule"],
        relu_operations=facts["relu_operations"],
        channels=np.load(channels, allow_pickle=False) if channels.exists() else None,
        notes=tuple(facts["notes"]),
        warnings=tuple(facts["warnings"]),
        checks=tuple(
            Check(c["name"], tuple(c["values"]), c["verdict"], c["words"]) for c in facts["checks"]
        ),
    )


def _npy(array: NDArray[Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _class_name(explanation: Explanation, position: int) -> str:
    names = explanation.class_names
    return names[position] if position < len(names) else str(position)


def _weights_hash(classifier: Classifier | None) -> str | None:
    return None if classifier is None else weights_hash(classifier)
