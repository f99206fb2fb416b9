"""Weights in several files, listed by an index as Hugging Face's libraries write it.

``model.safetensors.index.json`` maps the name of each tensor to one of the files next to it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from glasshouse.errors import ModelError

_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.")
# The names of a million tensors; files with weights are not read as text at all.
_LARGEST = 200_000_000


def shards_of(path: Path, head: bytes) -> Mapping[str, Path] | None:
    """The file of each tensor that an index lists; None for a file that is no index.

    head: its first bytes. Raises ModelError for an index that names no files next to it.
    """
    if not head.lstrip().startswith(b"{") or path.stat().st_size > _LARGEST:
        return None
    try:
        listed = json.loads(path.read_bytes())["weight_map"]
        names = {str(key): str(file) for key, file in listed.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    for name in dict.fromkeys(names.values()):
        # An index comes from elsewhere, and has no business in other folders.
        if Path(name).name != name:
            raise ModelError(f"{path} lists {name}: expected files next to it")
        if not path.with_name(name).is_file():
            raise ModelError(f"{path} lists {name}, which is missing: put it next to the index")
    return {key: path.with_name(file) for key, file in names.items()}


def require_whole(path: Path) -> None:
    """Raise ModelError for one of several files, naming the index to read instead."""
    found = _SHARD.search(path.name)
    if found is None or int(found[1]) < 2:
        return
    stem, ending = path.name[: found.start()], path.name[found.end() - 1 :]
    index = path.with_name(f"{stem}{ending}.index.json")
    advice = (
        f"name their index, {index}"
        if index.is_file()
        else f"put all of them and {index.name} into one folder, and name that index"
    )
    raise ModelError(f"{path} is one of {int(found[1])} files: {advice}")
