"""Strict loading of weights: keys that are missing, unexpected or of another shape are named."""

import pickle
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from glasshouse.errors import ModelError

_PICKLED = (".pt", ".pth", ".th", ".bin", ".ckpt")
# Keys under which training scripts store weights in a checkpoint, and prefixes added by wrappers.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the named tensors of a .safetensors, .pt, .pth, .th, .bin or .ckpt file, with notes.

    Pickled files are read with weights_only, so that no code in them runs; prefixes such as the
    ``module.`` of DataParallel are removed. Raises ModelError for any other or a damaged file.
    """
    if not path.is_file():
        raise ModelError(f"the weights file {path} does not exist")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), ()
        except (SafetensorError, OSError, MemoryError) as error:
            raise ModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    if path.suffix not in _PICKLED:
        known = ", ".join((".safetensors", *_PICKLED))
        raise ModelError(f"{path}: expected a weights file of type {known}")
    return _unwrap(_unpickle(path), path)


def load_weights(
    net: nn.Module,
    weights: Mapping[str, Tensor],
    source: object,
    *,
    replaceable: Collection[str] = (),
) -> tuple[str, ...]:
    """Copy the weights into the network, in its own precision; returns notes.

    replaceable: keys of the head, which keeps its own values if the number of classes differs.
    Raises ModelError that names the first keys that are missing, unexpected or of another shape;
    the network is then unchanged.
    """
    expected = net.state_dict()
    weights, notes = _without_other_head(expected, weights, replaceable)
    # Many files are older than this counter, which only counts updates of the statistics.
    kept = {key: value for key, value in expected.items() if key.endswith(_COUNTER) or key in notes}
    whole = {**kept, **weights}
    problems = [
        *_listed("missing", [key for key in expected if key not in whole]),
        *_listed("unexpected", [key for key in whole if key not in expected]),
        *_listed("of another shape", _misshapen(expected, whole)),
    ]
    if problems:
        raise ModelError(
            f"{source} does not match the network: {'; '.join(problems)}. "
            "Load it into the architecture that it was trained with."
        )
    net.load_state_dict(whole, strict=True)
    return tuple(dict.fromkeys(notes.values()))


def _without_other_head(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], replaceable: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights without a head for other classes, and a note for each key that was dropped."""
    head = [key for key in expected if key in replaceable]
    if all(key in weights and weights[key].shape == expected[key].shape for key in head):
        return dict(weights), {}
    there, here = (_rows(head, tensors) for tensors in (weights, expected))
    note = (
        f"the head was replaced and is untrained ({there} -> {here} classes): {', '.join(head)}"
        if there
        else f"the file has no head; the head is untrained: {', '.join(head)}"
    )
    rest = {key: value for key, value in weights.items() if key not in head}
    return rest, dict.fromkeys(head, note)


def _rows(head: list[str], tensors: Mapping[str, Tensor]) -> int:
    return next((int(tensors[key].shape[0]) for key in head if key in tensors), 0)


def _misshapen(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {_shape(weights[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]


def _unpickle(path: Path) -> Any:
    _require_uncompressed(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} contains more than tensors, or is not a torch file, and is not loaded for "
            "safety. Save only the state_dict of the network, preferably as .safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ModelError(f"{path} is damaged or was not written by torch.save: {error}") from error


def _require_uncompressed(path: Path) -> None:
    """Raise ModelError for an archive that takes more memory than its file takes on the disk.

    torch.save stores without compression, but torch.load would also unpack what is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the format before torch 1.6, or a damaged file, which torch.load names
    is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    # Entries that overlap share their bytes in the file, but not in memory.
    if is_compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(
            f"{path} is compressed, as torch.save writes no file, so a small file could fill the "
            "memory. Load it where it comes from, and save its state_dict as .safetensors."
        )


def _require_stored(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError for tensors whose values are not all in the file.

    A pickle can declare tensors without values, or one value that stands for a billion.
    """
    storages: dict[int, int] = {}
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise ModelError(f"{path}: expected plain tensors, but {key} is of another kind")
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if value.numel() * value.element_size() > storage.nbytes():
            raise ModelError(f"{path}: {key} has {_shape(value)} values, but the file has fewer")
    if sum(storages.values()) > path.stat().st_size:
        raise ModelError(f"{path}: its tensors are larger than the file")


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes = []
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            notes.append(f"the weights were read from '{wrapper}' in {path.name}")
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise ModelError(f"{path} has no named tensors; save net.state_dict() to it")
    _require_stored(content, path)
    for prefix in _PREFIXES:
        if content and all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
            notes.append(f"'{prefix}' was removed from each key of {path.name}")
    return dict(content), tuple(notes)


def _listed(what: str, names: Iterable[str], shown: int = 3) -> list[str]:
    names = list(names)
    if not names:
        return []
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return [f"{len(names)} {what}: {', '.join(names[:shown])}{more}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a single number"
