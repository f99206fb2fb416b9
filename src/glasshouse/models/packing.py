"""Convolutions with prepacked weights, fused with their activations, for inference on a CPU.

oneDNN computes with weights in a blocked layout. torch reorders them at every call; here they are
reordered once, and the activation is applied while the values are still in the processor's cache.
"""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from glasshouse.models.freezing import forward_pre_hooks
from glasshouse.models.tracing import called_once, layer_calls

# Operations that torch's compiler emits. They are not documented, so `can_pack` checks that this
# version has them, and `inference_net` compares what they compute with the plain convolutions.
_OPERATIONS = ("_reorder_convolution_weight", "_convolution_pointwise")

# The name of each activation in oneDNN, its parameters, and which of its formulas.
_Fused = tuple[str, list[float], str]
_NONE: _Fused = ("none", [], "")
_ACTIVATIONS: dict[type[nn.Module], Callable[[nn.Module], _Fused]] = {
    nn.ReLU: lambda _: ("relu", [], ""),
    nn.ReLU6: lambda _: ("hardtanh", [0.0, 6.0], ""),
    nn.SiLU: lambda _: ("swish", [], ""),
    nn.Hardswish: lambda _: ("hardswish", [], ""),
    nn.GELU: lambda gelu: ("gelu", [], str(gelu.approximate)),
}


class PackedConv(nn.Module):
    """A convolution and the activation after it, for inference on the CPU only."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None, shape: list[int]) -> None:
        super().__init__()
        self._places = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = (
            _NONE if activation is None else _ACTIVATIONS[type(activation)](activation)
        )
        # Not buffers: tensors of this layout cannot be saved, copied or moved.
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), *self._places, shape
        )
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature maps ``(n, channels, h, w)`` of any batch and image size."""
        # By its full name: choosing among an operation's forms takes as long as some layers.
        result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            inputs, self._weight, self._bias, *self._places, *self._activation
        )
        return result


def can_pack(net: nn.Module) -> bool:
    """Whether this version of torch, this processor and this network support packing."""
    return (
        bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)
        and all(parameter.device.type == "cpu" for parameter in net.parameters())
    )


def pack_convolutions(net: nn.Module, example: Tensor) -> int:
    """Replace convolutions by packed ones, in place; returns how many.

    example: inputs ``(n, 3, h, w)`` of the usual size, for which the layout is optimised.
    """
    shapes = _input_shapes(net, example)
    nodes = layer_calls(net)
    once = called_once(nodes)
    modules = dict(net.named_modules())
    behind = {str(n.target): _activation_behind(n, modules, once) for n in nodes}
    for name, shape in shapes.items():
        activation = behind.get(name)
        conv = modules[name]
        assert isinstance(conv, nn.Conv2d)
        fused = None if activation is None else modules[activation]
        net.set_submodule(name, PackedConv(conv, fused, shape))
        if activation is not None:
            net.set_submodule(activation, nn.Identity())
    return len(shapes)


def _input_shapes(net: nn.Module, example: Tensor) -> dict[str, list[int]]:
    """The input shape of each convolution that is called and can be packed."""
    shapes: dict[str, list[int]] = {}
    hooks = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: shapes.update({name: list(inputs[0].shape)})

    for name, module in net.named_modules():
        if name and _is_packable(module):
            hooks.append(module.register_forward_hook(note(name)))
    try:
        with torch.inference_mode():
            net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _is_packable(module: nn.Module) -> bool:
    # A subclass may compute something different.
    is_plain = type(module) is nn.Conv2d and module.padding_mode == "zeros"
    # Packing would lose a hook that changes the input, such as one that casts it to float32.
    is_plain = is_plain and not forward_pre_hooks(module)
    return is_plain and not isinstance(module.padding, str)


def _activation_behind(node: fx.Node, modules: dict[str, nn.Module], once: set[str]) -> str | None:
    """The name of the activation that is the only user of a layer's output, if both run once."""
    while node.op == "call_module" and str(node.target) in once and len(node.users) == 1:
        node = next(iter(node.users))
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if type(module) in _ACTIVATIONS and str(node.target) in once:
            return str(node.target)
        if not isinstance(module, nn.Identity | nn.Dropout):
            return None
    return None
