"""The only forward pass in evaluation mode."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.data.device_copy import on_device
from glasshouse.data.pixel_blocks import gather
from glasshouse.errors import ModelError, NotFinite
from glasshouse.models.preprocessing import Preprocessing, scale
from glasshouse.models.views import ALONE, Views

# Input values per pass, those of 32 images of 224x224: more would need memory and save no time.
_MOST_VALUES = 32 * 3 * 224 * 224


def predict_logits(
    net: nn.Module,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    precision: torch.dtype = torch.float32,
    views: Views = ALONE,
) -> Tensor:
    """Logits ``(n, k)`` of uint8 images ``(n, 3, h, w)``, on the CPU in float32.

    batch_size: an upper bound; large images are processed in smaller batches. views: whose mean
    logits are the answer.
    """
    device = device_of(net)
    if device.type == "meta":
        raise ModelError("the network is on the meta device, without values: load its weights")
    parts = []
    with evaluating(net), torch.inference_mode(), autocast(device, precision):
        for rows in passes(images, batch_size):
            positions = np.arange(rows.start, rows.stop)
            batch = on_device(gather(images, positions), device)
            parts.append(_logits(net, scale(batch, preprocessing), views))
    # Once at the end: a GPU would otherwise wait for the next images after each pass. Outside
    # inference mode, so that callers may change the values and compute gradients with them.
    return torch.cat(parts).cpu()


def logits_of_few(
    net: nn.Module,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    *,
    views: Views = ALONE,
) -> Tensor:
    """Logits ``(n, k)`` of a few images, for a network that stays in evaluation mode, on the CPU.

    The same values as those of `predict_logits`, which asks every module for its mode: on a single
    small image that takes as long as some of the layers.
    """
    device = device_of(net)
    with torch.inference_mode():
        parts = [
            _logits(net, scale(on_device(images[rows], device), preprocessing), views)
            for rows in passes(images)
        ]
        return torch.cat(parts).cpu()


def _logits(net: nn.Module, scaled: Tensor, views: Views) -> Tensor:
    def of(view: Tensor) -> Tensor:
        # The layout that convolutions on CPUs and GPUs compute fastest in.
        logits: Tensor = net(view.contiguous(memory_format=torch.channels_last)).float()
        return logits

    return views.mean(scaled, of(scaled), of)


def passes(images: NDArray[np.uint8] | Tensor, batch_size: int = 256) -> list[slice]:
    """The rows of each forward pass over images; images apart from others keep their results."""
    size = max(1, min(batch_size, _MOST_VALUES // max(1, math.prod(images.shape[1:]))))
    return [slice(start, min(start + size, len(images))) for start in range(0, len(images), size)]


def require_finite(
    logits: Tensor,
    ids: Sequence[str] | NDArray[np.str_] = (),
    net: nn.Module | None = None,
) -> None:
    """Raise NotFinite, naming the first image, unless all logits ``(n, k)`` are numbers.

    ids: what the error calls the images; their positions where there are none. net: where they come
    from; the error then names the first of its tensors that is damaged.
    """
    bad = (~logits.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        unnamed = "this image" if len(logits) == 1 else f"image {bad[0]}"
        first = ids[bad[0]] if len(ids) else unnamed
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        damage = None if net is None else _damage(net)
        cause = damage or (
            "Its weights are damaged, or its values exceed the range of their type; use weights "
            "that are whole, in float32"
        )
        raise NotFinite(
            f"the network has no answer for {first}{more}: its logits are NaN or infinite. {cause}"
        )


def _damage(net: nn.Module) -> str | None:
    """The first tensor of a network that no answer can be computed with, and what to do."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        # An infinite value may be meant, as in a mask.
        counts = {"NaN": int(tensor.isnan().sum()), "negative": negative_variances(name, tensor)}
        for kind, count in counts.items():
            if count:
                what = f"{count} of {tensor.numel()} values that are {kind}"
                return f"In the network, {name} has {what}: load weights that are whole"
    return None


def negative_variances(name: str, tensor: Tensor) -> int:
    """How many variances of a batch normalisation are negative, and so damaged; 0 for others."""
    is_variance = name.rpartition(".")[2] == "running_var"
    return int((tensor < 0).sum()) if is_variance else 0


def device_of(net: nn.Module) -> torch.device:
    """Where the network computes: the device of its parameters; the CPU where it has none."""
    return next((p.device for p in net.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has its previous mode again."""
    modes = [(module, module.training) for module in net.modules()]
    if any(mode for _, mode in modes):
        evaluated(net)
    try:
        yield
    finally:
        for module, mode in modes:
            # Setting an attribute of a module takes ten times as long as looking at it.
            if module.training != mode:
                module.training = mode


def evaluated(net: nn.Module) -> nn.Module:
    """The network itself, in evaluation mode from now on, whatever it does in its own train()."""
    net.eval()
    for module in net.modules():
        if module.training:
            module.training = False
    return net


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision on this device; float32 disables it."""
    enabled = precision != torch.float32
    return torch.autocast(
        device.type, dtype=precision if enabled else torch.bfloat16, enabled=enabled
    )
