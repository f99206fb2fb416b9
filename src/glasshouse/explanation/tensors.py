"""Maps of arbitrary input tensors, for networks that are no classifiers of photos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from glasshouse.errors import DataError, GlasshouseError, ModelError, UsageError, require_type
from glasshouse.explanation.explain import page_of, warn_of
from glasshouse.explanation.inputs import Targets
from glasshouse.explanation.methods import ExplainSettings, MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.explanation.one_pass import ask
from glasshouse.models.conformity import ConformityScores
from glasshouse.models.predict import device_of, evaluating
from glasshouse.models.trial import why_not_accepted
from glasshouse.models.views import ALONE, Views


def explain_tensors(
    net: nn.Module,
    inputs: Tensor | NDArray[np.floating],
    targets: Tensor | Sequence[int] | NDArray[np.integer] | int | None = None,
    *,
    methods: MethodName | Sequence[MethodName] = ("saliency", "grad-cam"),
    layer: str | None = None,
    settings: ExplainSettings | None = None,
) -> tuple[Explanation, ...]:
    """One Explanation per method of the tensors themselves; the network is left as it was.

    net: any module from float ``(n, c, h, w)`` to ``(n, k)``. inputs: what it takes, of any channel
    count and range; no preprocessing is applied. targets: the position of the output to explain,
    for all or one per tensor; unset: the highest. Maps are of what the network returns, also where
    that is a probability. In the explanations, channels are ``(n, c, h, w)``, and images are for
    display only: one or three channels scaled to 0..255, of any other number their mean.

    Warnings are issued, and errors raised, as by `explain`; DataError for other tensors.
    """
    require_type(net, nn.Module, "a network first: a torch.nn module")
    values = _values(net, inputs)
    names = (methods,) if isinstance(methods, str) else methods
    question = ask(_Bare(net), names, layer, settings)
    try:
        page = page_of(question, _images_of(values), lambda part: values[part], _positions(targets))
    except (RuntimeError, TypeError, ValueError) as error:
        _require_accepted(net, values[:1], error)
        raise
    warn_of(page.explanations)
    return page.explanations


@dataclass(frozen=True)
class _Bare:
    """A network of which nothing else is known."""

    net: nn.Module
    class_names: tuple[str, ...] = ()
    temperature: float = 1.0
    views: Views = ALONE
    thresholds: tuple[float, ...] | None = None
    conformity: ConformityScores | None = None


def _require_accepted(net: nn.Module, one: Tensor, error: Exception) -> None:
    """Raise ModelError if a network that failed does not take such an input at all."""
    if isinstance(error, GlasshouseError):
        return
    try:
        with torch.no_grad(), evaluating(net):
            net(one)
    # A network of the user's own may raise anything.
    except Exception as failed:
        raise ModelError(why_not_accepted(net, one, failed)) from error


def _values(net: nn.Module, inputs: ArrayLike | Tensor) -> Tensor:
    """The inputs on the device and in the precision of the network."""
    values = inputs.detach() if isinstance(inputs, Tensor) else torch.as_tensor(np.asarray(inputs))
    if values.ndim != 4 or not values.numel() or not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        hint = "; a single one is inputs[None]" if values.ndim == 3 else ""
        raise DataError(
            "expected float tensors (n, channels, height, width) as the network takes them, "
            f"received {kind} {tuple(values.shape)}{hint}"
        )
    if not bool(values.isfinite().all()):
        raise DataError("expected finite inputs, received some that are not")
    weight = next((p for p in net.parameters() if p.is_floating_point()), None)
    return values.to(device_of(net), values.dtype if weight is None else weight.dtype)


def _positions(targets: object) -> Targets | None:
    """Targets as integers; raises UsageError for others."""
    if targets is None:
        return None
    found = np.asarray(targets.cpu() if isinstance(targets, Tensor) else targets)
    if found.dtype.kind not in "iu" or found.ndim > 1:
        raise UsageError(
            "targets: expected positions of outputs, whole numbers, one for all or one per tensor "
            f"(n,); received {found.dtype} {found.shape}"
        )
    return int(found) if found.ndim == 0 else found.astype(np.int64)


def _images_of(values: Tensor) -> NDArray[np.uint8]:
    """Each tensor as an image ``(3, h, w)``, from its own lowest to its own highest value."""
    shown = values.float().cpu()
    if shown.shape[1] != 3:
        shown = shown.mean(1, keepdim=True)
    low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
    scaled = 255 * (shown - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    rgb: NDArray[np.uint8] = scaled.round().to(torch.uint8).expand(-1, 3, -1, -1).numpy()
    return np.ascontiguousarray(rgb)
