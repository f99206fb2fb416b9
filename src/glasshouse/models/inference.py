"""Networks optimised for inference: normalisations folded, weights packed, lower precision."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_weights

from glasshouse.models.agreement import Changed, PrecisionAgreement, agreement, least_cosine
from glasshouse.models.forward import evaluated
from glasshouse.models.packing import can_pack, pack_convolutions
from glasshouse.models.predict import evaluating
from glasshouse.models.tracing import called_once, layer_calls

# Folding and packing change nothing but rounding.
_FOLD_TOLERANCE = 1e-3
_PACK_TOLERANCE = 1e-4
# Enough images to verify folding and packing; lower precision is judged on all of them.
_FEW = 16


@dataclass(frozen=True)
class InferenceNet:
    """A copy of a network for inference, and how its outputs compare with the original's.

    folded: number of normalisations folded into the convolution before them. packed: number of
    convolutions with prepacked weights. agreement: how its outputs compare with those of the
    original in float32. refused: the agreement of a lower precision that was tried and rejected.
    """

    net: nn.Module
    precision: torch.dtype
    folded: int
    agreement: PrecisionAgreement
    packed: int = 0
    refused: PrecisionAgreement | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Float32 inputs ``(n, 3, h, w)`` to float32 outputs ``(n, d)``."""
        with torch.inference_mode():
            ready = inputs.to(self.precision, memory_format=torch.channels_last)
            answer: Tensor = self.net(ready).float()
        return answer.flatten(1)


def inference_net(
    net: nn.Module,
    example: Tensor,
    precision: torch.dtype = torch.float32,
    *,
    head: Sequence[str] = (),
    changed: Changed | None = None,
) -> InferenceNet:
    """Make a faster copy of the network, which itself is left unchanged.

    example: inputs ``(n, 3, h, w)`` on which each step is compared with the original; steps that do
    not agree are skipped, so that lower precision may be refused (see ``agreement``). head: modules
    that stay in float32 with everything after them, because rounded logits have ties. changed: a
    function of the float32 outputs and others that estimates the share of predictions that change,
    for example ``changed_logits``.
    """
    few = example[:_FEW]
    with evaluating(net), torch.inference_mode():
        expected = net(few).float().flatten(1)
    folded, count = _folded(net, few, expected)
    folded = folded.to(memory_format=torch.channels_last)
    full = InferenceNet(folded, torch.float32, count, PrecisionAgreement(1.0))
    if precision == torch.float32:
        return _packed(full, few, expected)
    # A copy, since the float32 network is still needed for the comparison.
    rounded = copy.deepcopy(folded).to(precision)
    for name in head:
        rounded.get_submodule(name).float().register_forward_pre_hook(_in_float32)
    low = InferenceNet(rounded, precision, count, PrecisionAgreement(1.0))
    found = agreement(full(example), low(example), changed)
    if not found.is_enough:
        return _packed(replace(full, refused=found), few, expected)
    return _packed(replace(low, agreement=found), few, expected)


def fold_normalisations(net: nn.Module) -> int:
    """Fold each BatchNorm into the convolution that feeds it and nothing else, in place.

    Returns how many were folded: none if the network cannot be traced.
    """
    modules = dict(net.named_modules())
    pairs = _pairs(net, modules)
    for conv_name, norm_name in pairs:
        conv, norm = modules[conv_name], modules[norm_name]
        assert isinstance(conv, nn.Conv2d)
        _fold(conv, norm)
        net.set_submodule(norm_name, _rest_of(norm))
    return len(pairs)


def _folded(net: nn.Module, example: Tensor, expected: Tensor) -> tuple[nn.Module, int]:
    own = evaluated(copy.deepcopy(net)).requires_grad_(False)
    count = fold_normalisations(own)
    with torch.inference_mode():
        found = own(example).float().flatten(1)
    if count and _difference(expected, found) <= _FOLD_TOLERANCE:
        return own, count
    return evaluated(copy.deepcopy(net)).requires_grad_(False), 0


def _packed(ready: InferenceNet, example: Tensor, expected: Tensor) -> InferenceNet:
    """With packed convolutions if they compute the same; in any case with its own cosine."""
    answers = ready(example)
    plain = _with_cosine(ready, expected, answers)
    if not can_pack(ready.net):
        return plain
    own = copy.deepcopy(ready.net)
    inputs = example.to(ready.precision, memory_format=torch.channels_last)
    try:
        packed = replace(ready, net=own, packed=pack_convolutions(own, inputs))
        found = packed(example)
    # A processor may lack a kernel for a layer.
    except RuntimeError:
        return plain
    packed = _with_cosine(packed, expected, found)
    if ready.precision == torch.float32:
        agrees = _difference(answers, found) <= _PACK_TOLERANCE
    else:
        agrees = packed.agreement.is_enough
    return packed if agrees else plain


def _with_cosine(ready: InferenceNet, expected: Tensor, found: Tensor) -> InferenceNet:
    own = replace(ready.agreement, cosine=least_cosine(expected, found))
    return replace(ready, agreement=own)


def _pairs(net: nn.Module, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """Names of convolutions and the normalisations that are their only users."""
    nodes = layer_calls(net)
    once = called_once(nodes)
    found = []
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = str(before.target), str(node.target)
        is_conv = isinstance(modules.get(conv), nn.Conv2d)
        if {conv, norm} <= once and is_conv and _can_fold(modules[norm]):
            found.append((conv, norm))
    return found


def _can_fold(norm: nn.Module) -> bool:
    # timm's subclass adds an activation and a dropout; others may compute anything.
    known = type(norm) is nn.BatchNorm2d or (hasattr(norm, "act") and hasattr(norm, "drop"))
    return isinstance(norm, nn.BatchNorm2d) and known and norm.running_mean is not None


def _rest_of(norm: nn.Module) -> nn.Module:
    """What a normalisation does in addition to normalising: timm's include an activation."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))


def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
        norm.weight, norm.bias,
    )  # fmt: skip
    conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach(), requires_grad=False)


def _in_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)


def _difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference relative to the largest value; infinite if there is a NaN."""
    share = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
    return float(torch.nan_to_num(share, nan=float("inf")))
