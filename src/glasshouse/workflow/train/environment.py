"""What a run was made with: versions, machine, threads, device."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

if sys.platform != "win32":
    import resource

_PACKAGES = ("glasshouse", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


def describe_environment(device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Plain values for environment.json; of these only threads and device change results."""
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(precision).removeprefix("torch."),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_memory_bytes() -> int:
    """The largest resident size that this process has reached."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # Elsewhere psutil knows the present size only.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
