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

from glasshouse.training.thread_choice import ThreadChoice

if sys.platform != "win32":
    import resource

_PACKAGES = ("glasshouse", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


def describe_environment(
    device: torch.device, precision: torch.dtype, threads: ThreadChoice
) -> dict[str, Any]:
    """Plain values for environment.json; of these only threads and device change results.

    thread_rates: the images per second of each number of threads, where they were measured.
    """
    rates = {str(number): round(rate, 1) for number, rate in sorted(threads.rates.items())}
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads.threads,
        **({"thread_rates": rates} if rates else {}),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
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
