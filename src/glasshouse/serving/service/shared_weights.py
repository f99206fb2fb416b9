"""Weights that the workers of a service have in memory once: mapped from a file of their own."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

# Later than this, no worker is still about to load the same weights.
_KEPT_SECONDS = 600.0


def share_weights(net: nn.Module, folder: Path) -> None:
    """Let a network on the CPU read its weights from a file in a folder, which others map too.

    The first worker writes the file, under the hash of its content. A run's own file is not mapped,
    since a copy over it would change the weights in use, or end the process. Values stay the same.
    """
    own = {name: value for name, value in net.state_dict(keep_vars=True).items() if _fits(value)}
    if not own:
        return
    _remove_old(folder)
    path = folder / f"{_hash(own)}.safetensors"
    if not path.exists():
        draft = folder / f"{path.stem}.{os.getpid()}.draft"
        # Cloned, because safetensors refuses tensors that share memory.
        save_file({name: value.detach().clone() for name, value in own.items()}, draft)
        draft.replace(path)
    mapped = load_file(path)
    for name, value in own.items():
        value.data = mapped[name]


def _fits(value: object) -> bool:
    """Whether a file can hold it: a tensor in the usual layout, with values."""
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and value.is_contiguous()
        and value.numel() > 0
    )


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _remove_old(folder: Path) -> None:
    """Remove files that were written long ago: what is mapped stays, without a name."""
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink()
