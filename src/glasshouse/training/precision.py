"""The precision of training, and what the device can compute in."""

import contextlib
import platform
import sys
from functools import cache
from pathlib import Path

import torch

from glasshouse.settings import TrainSettings


def choose_precision(settings: TrainSettings, device: torch.device) -> torch.dtype:
    """bf16 where requested or where the device supports it; never decided by timing."""
    if settings.precision == "auto":
        return torch.bfloat16 if computes_in_bf16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.precision]


def computes_in_bf16(device: torch.device) -> bool:
    """True when the device multiplies matrices faster in bf16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    # Intel's AVX-512 has bf16 as well, at half the speed of float32. A virtual machine may hide the
    # tiles of its processor.
    return has_matrix_tiles() or (_cpu_has("avx512_bf16") and not _is_intel())


def has_matrix_tiles() -> bool:
    """True when the processor multiplies matrices in tiles (Intel AMX)."""
    return _cpu_has("amx_tile")


@cache
def _cpu_has(instructions: str) -> bool:
    # Public in newer versions of torch, one private function each in older ones. Where neither is
    # there, training is in float32, which is slower and never wrong.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return bool(capabilities().get(instructions, False))
    ask = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return ask is not None and bool(ask())


@cache
def _is_intel() -> bool:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return b"GenuineIntel" in Path("/proc/cpuinfo").read_bytes()
    return "GenuineIntel" in platform.processor()
