"""Weights from files into nets, strictly: what is missing, surplus or misshapen is named."""

import pickle
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from glasshouse.errors import ModelError

_PICKLED = (".pt", ".pth", ".th", ".bin", ".ckpt")
# Where training scripts put the weights among other things, and what wrappers prefix to each key.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The named tensors of a .safetensors or a .pt, .pth, .th, .bin or .ckpt file, with notes.

    Pickled files are read with weights_only, so that no code in them runs; the ``module.`` of
    DataParallel is taken off. Raises ModelError when the file is not such a file.
    """
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), ()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    if path.suffix not in _PICKLED:
        known = ", ".join((".safetensors", *_PICKLED))
        raise ModelError(f"{path}: weights are read from {known} files only")
    return _unwrap(_unpickle(path), path)


def load_weights(
    net: nn.Module,
    weights: Mapping[str, Tensor],
    source: object,
    *,
    replaceable: Collection[str] = (),
) -> tuple[str, ...]:
    """Copy the weights into the net, in the net's own precision; returns notes.

    replaceable: keys of the head, which keeps its own values where the number of classes differs.
    Raises ModelError that names the first keys that are missing, surplus or of another shape; the
    net is then as it was.
    """
    expected = net.state_dict()
    weights, notes = _without_other_head(expected, weights, replaceable)
    # The counter is newer than many files, and only tells how often the statistics were updated.
    kept = {key: value for key, value in expected.items() if key.endswith(_COUNTER) or key in notes}
    whole = {**kept, **weights}
    problems = [
        *_listed("missing", [key for key in expected if key not in whole]),
        *_listed("surplus", [key for key in whole if key not in expected]),
        *_listed("of another shape", _misshapen(expected, whole)),
    ]
    if problems:
        raise ModelError(
            f"{source} does not fit the net: {'; '.join(problems)}. "
            "Load it into the architecture that it was trained with."
        )
    net.load_state_dict(whole, strict=True)
    return tuple(dict.fromkeys(notes.values()))


def _without_other_head(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], replaceable: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights without a head for other classes, and a note for each key that was left out."""
    head = [key for key in expected if key in replaceable]
    if all(key in weights and weights[key].shape == expected[key].shape for key in head):
        return dict(weights), {}
    there, here = (_rows(head, tensors) for tensors in (weights, expected))
    note = (
        f"the head was replaced and is untrained ({there} -> {here} classes): {', '.join(head)}"
        if there
        else f"the file has no head; the net's own is untrained: {', '.join(head)}"
    )
    rest = {key: value for key, value in weights.items() if key not in head}
    return rest, dict.fromkeys(head, note)


def _rows(head: list[str], tensors: Mapping[str, Tensor]) -> int:
    return next((int(tensors[key].shape[0]) for key in head if key in tensors), 0)


def _misshapen(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {_shape(weights[key])} and should be {_shape(value)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is no torch file, and is not opened for safety. "
            "Save only the state_dict of the net in it, best as .safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged or not a file of torch.save: {error}") from error


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes = []
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            notes.append(f"the weights are those under '{wrapper}' in {path.name}")
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise ModelError(f"{path} holds no named tensors; save net.state_dict() in it")
    for prefix in _PREFIXES:
        if content and all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
            notes.append(f"'{prefix}' was taken off each key of {path.name}")
    return dict(content), tuple(notes)


def _listed(what: str, names: Iterable[str], shown: int = 3) -> list[str]:
    names = list(names)
    if not names:
        return []
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{len(names)} {what}: {', '.join(names[:shown])}{more}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a single number"
