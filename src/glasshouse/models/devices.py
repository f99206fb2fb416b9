"""Where a network computes."""

import torch

from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is the first CUDA device where there is one, else the CPU.

    Raises UsageError for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def use_device(classifier: Classifier, name: str) -> Classifier:
    """The same classifier, with its network moved to the device of this name."""
    classifier.net.to(choose_device(name))
    return classifier
