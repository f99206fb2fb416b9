"""Folders of weights as Hugging Face's libraries write them, and what to name instead of them."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glasshouse.errors import UsageError

_ENDINGS = (".index.json", ".safetensors", ".bin", ".pt", ".pth")
_CONFIG = "config.json"
# Names of class lists in that file, of transformers and of timm.
_NAMES = ("id2label", "label_names")
_OWN_CODE = (
    "save the lines 'from transformers import {kind}' and 'net = lambda: "
    "{kind}.from_pretrained({folder})' to a file, such as nets.py, and name it in the place of the "
    "folder, with the size of its images, and their mean and std: --net nets.py:net:{images}"
)


def why_no_weights(path: Path) -> str:
    """What a path is that is no file of weights; of a folder, a file in it that may be."""
    if not path.is_dir():
        return "does not exist"
    inside = _weights_in(path)
    return f"is a folder: name a file in it{f', such as {inside[0].name}' if inside else ''}"


def folder_as_model(folder: Path) -> UsageError | None:
    """The error for a folder of timm or transformers in the place of a model's name.

    None for a folder without a weights file and the description of its network.
    """
    inside = _weights_in(folder) if folder.is_dir() else []
    config = _json(folder / _CONFIG)
    network, kinds = config.get("architecture"), config.get("architectures")
    if not inside or not (network or kinds):
        return None
    names = f" --class-names {shlex.quote(str(folder / _CONFIG))}"
    names = names if any(key in config for key in _NAMES) else ""
    if network:
        weights = shlex.quote(str(inside[0]))
        advice = f"name its network and its file: {network} --weights {weights}{names}"
    else:
        kind = str(kinds[0] if isinstance(kinds, list) else kinds)
        path = json.dumps(str(folder.resolve()), ensure_ascii=False)
        advice = _OWN_CODE.format(kind=kind, folder=path, images=_images(folder, config)) + names
    library = "timm" if network else "transformers"
    return UsageError(f"{folder} is a folder of {library}, not of Glasshouse: {advice}")


def _weights_in(folder: Path) -> list[Path]:
    inside = [each for each in sorted(folder.iterdir()) if each.name.endswith(_ENDINGS)]
    return sorted(inside, key=lambda path: not path.name.endswith(_ENDINGS[0]))


def _images(folder: Path, config: Mapping[str, Any]) -> str:
    """What the files in a folder of transformers say of its images, as --net takes it."""
    size, levels = config.get("image_size"), _json(folder / "preprocessor_config.json")
    found = {
        "input_size": size if isinstance(size, int) else 224,
        "mean": levels.get("image_mean"),
        "std": levels.get("image_std"),
    }
    return ",".join(
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in found.items()
        if isinstance(value, int | float | list)
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
