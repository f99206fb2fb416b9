"""Where a network computes."""

import os

import torch

from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is some, else MPS, else the CPU.

    On CUDA, see `compute_exactly`. Raises UsageError for a device that this machine does not have.
    """
    device = _automatic() if name == "auto" else _available(name)
    compute_exactly(device)
    return device


def compute_exactly(device: torch.device) -> None:
    """On CUDA, have float32 convolutions compute in float32 in this process from now on.

    Torch itself rounds their inputs to ten bits (TF32).
    """
    if device.type != "cuda":
        return
    # For the whole process: as a setting of each computation, threads would undo each other's.
    # Logits and maps would otherwise depend on the size of their batch from the third digit on.
    torch.backends.cudnn.allow_tf32 = False
    # Torch reads it when it first multiplies matrices, to do so in the same order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_device(classifier: Classifier, name: str) -> Classifier:
    """The same classifier, with its network moved to the device of this name."""
    classifier.net.to(choose_device(name))
    return classifier


def _automatic() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _available(name: str) -> torch.device:
    try:
        device = torch.device(name)
        # Reading back fails on devices without values.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        reason = "unknown device type" if reason.startswith("Expected one of") else reason
        raise UsageError(
            f"device '{name}' is not available ({reason}). Expected auto, cpu, cuda, cuda:1 and so "
            "on, or mps."
        ) from error
    return device
