"""Weights files as people have them, told apart by their content and read without running code."""

import io
import json
import pickle
import pickletools
import re
import shlex
import sys
import warnings
import zipfile
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from glasshouse.errors import GlasshouseWarning, ModelError
from glasshouse.models.sharded_weights import require_whole, shards_of
from glasshouse.models.weights_folders import why_no_weights
from glasshouse.wording import first_of

# Keys under which training scripts store the weights in a checkpoint, the usual ones first.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights",
    "state_dict_ema", "model_ema", "ema", "params", "params_ema", "module",
)  # fmt: skip
_HEAD_BYTES = 512
# What is often named like a weights file, by its first bytes, and what to do about it.
_OTHERS = (
    (b"\x89HDF", "a Keras or HDF5 file, which Glasshouse does not read"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file with `git lfs pull`"),
    (b"<", "a web page, not the file: download it again"),
)
_TAR = slice(257, 262), b"ustar"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# Of a pickle, generously: a checkpoint of a thousand layers has 100,000.
_MOST_OPERATIONS = 2_000_000
_DEPTH = 3
_SHOWN = 5
_TORCH_LOAD = 'torch.load({}, map_location="cpu", weights_only=False)'
_PICKLE_LOAD = 'pickle.load(open({}, "rb"))'
# Without a usual key: what is in a dict, or in a Learner of fastai, and of several the largest.
_WEIGHTS_OF_LARGEST = (
    "max((n.state_dict() for n in [found, *(found if isinstance(found, dict) else vars(found))"
    ".values()] if isinstance(n, torch.nn.Module)), key=len)"
)
# The parts of every state_dict.
_USUAL = re.compile(r"collections\.|torch\._utils\.|torch\.storage\.|torch\.\w+Storage$")
_EXPECTED = "Expected a safetensors file, or the state_dict of a network written by torch.save"


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the named tensors of a safetensors file or of what torch.save writes, with notes.

    path: may be the index of several such files. A GlasshouseWarning says which of several sets is
    taken. The content decides the format, never the name. Pickles are read with weights_only, so
    that no code in them runs. Raises ModelError that says what the file is and what to do.
    """
    if not path.is_file():
        raise ModelError(f"the weights file {path} {why_no_weights(path)}")
    shards = shards_of(path, _head(path))
    if shards is None:
        require_whole(path)
        return _read_file(path)
    found: dict[str, Tensor] = {}
    for file in dict.fromkeys(shards.values()):
        found |= _read_file(file)[0]
    missing = [key for key in shards if key not in found]
    if missing:
        file = shards[missing[0]]
        raise ModelError(f"{path} says that {file.name} has {missing[0]}, but it has not")
    return found, (f"the weights were read from {len(set(shards.values()))} files",)


def _read_file(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    head = _head(path)
    if _is_safetensors(head):
        try:
            return load_file(path), ()
        except (SafetensorError, OSError, MemoryError) as error:
            raise ModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    if not head.startswith((_ZIP, _PICKLE)):
        raise ModelError(f"{path} is {_kind(head)}. {_EXPECTED}.")
    return _named_tensors(_unpickle(path), path)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise ModelError(f"the weights file {path} cannot be read: {error.strerror}") from error


def _is_safetensors(head: bytes) -> bool:
    # The size of its header in eight bytes, of which the last are zero, and the header, in JSON.
    return head[8:9] == b"{" and head[5:8] == bytes(3)


def _kind(head: bytes) -> str:
    """What a file is whose first bytes are not those of weights."""
    if not head:
        return "empty, and so damaged"
    if head[_TAR[0]] == _TAR[1]:
        return "a tar archive: unpack it, and name the weights file in it"
    for start, kind in _OTHERS:
        if head.lstrip().startswith(start):
            return kind
    return "damaged or no weights file"


def _unpickle(path: Path) -> Any:
    _require_plain_archive(path)
    if _head(path).startswith(_PICKLE) and not _has_magic(path):
        raise ModelError(_refusal(path, _PICKLE_LOAD))
    try:
        # Opened here, because torch goes by the name of a path.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(_refusal(path)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ModelError(f"{path} is damaged or was not written by torch.save: {error}") from error


def _require_plain_archive(path: Path) -> None:
    """Raise ModelError for a zip file that is no torch.save's, or takes more memory than disk.

    torch.save stores without compression, but torch.load would also unpack what is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the format before torch 1.6, or a damaged file, which torch.load names
    _require_weights(path, {entry.filename for entry in entries})
    is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    # Entries that overlap share their bytes in the file, but not in memory.
    if is_compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(
            f"{path} is compressed, as torch.save writes no file, so a small file could fill the "
            "memory. Load it where it comes from, and save its state_dict as .safetensors."
        )


def _require_weights(path: Path, names: Collection[str]) -> None:
    """Raise ModelError for an archive of another kind than that of torch.save."""
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner:
        what, load, state = "a TorchScript network", "torch.jit.load({})", "net.state_dict()"
    elif "archive_format" in inner:
        what, load, state = "a network of torch.export", "torch.export.load({})", "net.state_dict"
    elif names and "data.pkl" not in inner and not any(n.startswith("data/") for n in inner):
        raise ModelError(
            f"{path} is a zip file without weights of torch, with {_some(sorted(names))}: if one "
            "of them has the weights, unpack it and name that"
        )
    else:
        return
    made = f"net = {load.format(_quoted(str(path)))}"
    raise ModelError(f"{path} is {what}, code included. {_advice(path, made, f'dict({state})')}")


def _refusal(path: Path, loader: str = _TORCH_LOAD) -> str:
    """Why a pickle is not loaded, and a command that saves only its weights."""
    words = _words(path)
    others = [name for name in words.globals if not _USUAL.match(name)]
    wrapper = next((key for key in _WRAPPERS if key in words.filled), None)
    inner = f"found[{_quoted(wrapper)}]" if words.is_dict and wrapper else "found"
    if any(name.startswith("torch.nn.modules.") for name in words.globals):
        own = (name for name in others if name.partition(".")[0] not in sys.stdlib_module_names)
        what = f"a whole network ({next(own, others[0])}), code included, instead of its weights"
        named = f'getattr({inner}, "state_dict", lambda: {inner})()'
        saved = _WEIGHTS_OF_LARGEST if inner == "found" else named
    elif any(name.startswith("numpy.") for name in others) and not any(
        name.startswith("torch.") for name in words.globals
    ):
        what = "arrays of NumPy"
        saved = f'{{k: torch.as_tensor(v) for k, v in {inner}.items() if hasattr(v, "shape")}}'
    else:
        what = f"more than tensors{f' ({_some(others)})' if others else ', or is no torch file'}"
        plain = "{k: v for k, v in found.items() if isinstance(v, torch.Tensor)}"
        saved = plain if inner == "found" else inner
    load = f"found = {loader.format(_quoted(str(path)))}"
    return f"{path} contains {what}, and is not loaded for safety. {_advice(path, load, saved)}"


def _advice(path: Path, load: str, saved: str) -> str:
    return (
        "If you trust where it comes from, save its weights alone, which runs its code, and name "
        f"the new file: {_command(path, load, saved)}"
    )


def _command(path: Path, load: str, saved: str) -> str:
    target = path.with_name(f"{path.name.partition('.')[0]}-weights.pt")
    code = f"import pickle, torch; {load}; torch.save({saved}, {_quoted(str(target))})"
    return shlex.join(["python", "-c", code])


def _quoted(text: str) -> str:
    # In double quotes, since the shell's own are single ones.
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class _Words:
    """The classes and functions that a pickle names, its strings, and whether it is a dict.

    filled: the strings that None does not follow, as it does a key of a dict without a value.
    """

    globals: tuple[str, ...]
    filled: frozenset[str]
    is_dict: bool


def _words(path: Path) -> _Words:
    """What the pickle in a file names, found without executing it."""
    names: list[str] = []
    strings: list[str] = []
    empty: set[str] = set()
    first = last = ""
    with suppress(Exception):  # a damaged pickle still names what comes before the damage
        for operation, value in islice(_operations(path), _MOST_OPERATIONS):
            if operation == "GLOBAL":
                names.append(str(value).replace(" ", "."))
            elif operation == "STACK_GLOBAL" and len(strings) > 1:
                names.append(".".join(strings[-2:]))
            elif "UNICODE" in operation:
                strings.append(str(value))
            elif operation == "NONE" and "UNICODE" in last:
                empty.add(strings[-1])
            if "PUT" not in operation and operation != "MEMOIZE":
                last = operation
            if not first and operation in ("EMPTY_DICT", "GLOBAL", "STACK_GLOBAL"):
                first = operation
    return _Words(tuple(dict.fromkeys(names)), frozenset(strings) - empty, first == "EMPTY_DICT")


def _operations(path: Path) -> Iterator[tuple[str, Any]]:
    """The operations of the pickle with the content, and their arguments."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            source: Any = io.BytesIO(archive.read(entry))
    else:
        source = path.open("rb")
    with source:
        # The format before torch 1.6 has three pickles of numbers before the content.
        for _ in range(3 if _has_magic(path) else 0):
            deque(pickletools.genops(source), maxlen=0)
        for code, value, _ in pickletools.genops(source):
            yield code.name, value


def _has_magic(path: Path) -> bool:
    """Whether a file has the old format of torch.save, which begins with the pickle of a number."""
    with suppress(Exception), path.open("rb") as file:
        return any(value == MAGIC_NUMBER for _, value, _ in islice(pickletools.genops(file), 3))
    return False


def _named_tensors(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights in a checkpoint, and notes on where they were."""
    notes: list[str] = []
    while isinstance(content, Mapping) and (place := _place(content, path)):
        others = [each for each in dict(_nested(content)) if each[0] != place[0]]
        if others:
            warnings.warn(_choice(path, place, others), GlasshouseWarning, stacklevel=2)
        notes.append(f"the weights were read from '{'/'.join(place)}' in {path.name}")
        for key in place:
            content = content[key]
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ModelError(f"{path} has no named tensors, but a {kind}: save net.state_dict() to it")
    weights = _weights_in(content)
    rest = [str(key) for key in content if key not in weights]
    if rest:
        notes.append(f"{_some(rest)} in {path.name} are no tensors, and were left out")
    _require_stored(weights, path)
    return weights, tuple(notes)


def _choice(path: Path, place: tuple[str, ...], others: list[tuple[str, ...]]) -> str:
    """Which of several sets of weights is taken, and a command that saves the next one."""
    first = "/".join(others[0])
    return (
        f"{path} has several sets of weights: those of '{'/'.join(place)}' are taken, not those of "
        f"{_some(map('/'.join, others))}. To take '{first}', name the file that this command "
        f"saves: {_set_command(path, others[0])}"
    )


def _set_command(path: Path, place: tuple[str, ...]) -> str:
    load = f"found = {_TORCH_LOAD.replace('False', 'True').format(_quoted(str(path)))}"
    return _command(path, load, "found" + "".join(f"[{_quoted(key)}]" for key in place))


def _place(content: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    """The keys that lead to the weights in a checkpoint; none where it has them itself."""
    found = dict(_nested(content))
    for wrapper in _WRAPPERS:
        if any(place[:1] == (wrapper,) for place in found):
            return (wrapper,)
    if () in found or len(found) == 1:
        return next(iter(found))
    keys = _some(map(str, content))
    if not found:
        keys = keys or "none"
        raise ModelError(f"{path} has no named tensors; its keys: {keys}. Save net.state_dict()")
    first = next(iter(found))
    raise ModelError(
        f"{path} has several sets of weights; its keys are {keys}. Save the one that you mean to a "
        f"file of its own. For '{'/'.join(first)}' ({found[first]} tensors): "
        + _set_command(path, first)
    )


def _nested(content: Any, depth: int = _DEPTH) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where the mappings from names to tensors are, and how many tensors each has."""
    if not isinstance(content, Mapping):
        return
    if found := _weights_in(content):
        yield (), len(found)
    for key, inner in content.items() if depth else ():
        # The state of an optimizer has tensors for each parameter, too.
        if isinstance(key, str) and "optim" not in key:
            for place, count in _nested(inner, depth - 1):
                yield (key, *place), count


def _weights_in(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The named tensors of a mapping; none where all are single numbers, such as the accuracy."""
    found = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return found if any(value.ndim for value in found.values()) else {}


def _require_stored(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError for tensors whose values are not all in the file.

    A pickle can declare tensors without values, or one value that stands for a billion.
    """
    storages: dict[int, int] = {}
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            kind = "quantised" if value.is_quantized else str(value.layout).removeprefix("torch.")
            raise ModelError(
                f"{path}: expected plain tensors with all their values, but {key} is "
                f"{'on the meta device' if value.is_meta else kind}: save the weights as they were "
                "before, or of a sparse one what its to_dense() returns"
            )
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if value.numel() * value.element_size() > storage.nbytes():
            shape = "x".join(map(str, value.shape))
            raise ModelError(f"{path}: {key} has {shape} values, but the file has fewer")
    if sum(storages.values()) > path.stat().st_size:
        raise ModelError(f"{path}: its tensors are larger than the file")


def _some(names: Iterable[str]) -> str:
    """The first names of several, and how many more there are."""
    return first_of(list(names), _SHOWN)
