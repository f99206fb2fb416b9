"""The training pass of a Sequential: the layers that it has, with less work."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

# Where the gradients of parameters are to be written.
Places = dict[Tensor, Tensor]

_Pass = Callable[[Tensor], Tensor]

# Their own backward pass does not read what they return, so that it may be overwritten.
_OVERWRITABLE = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.MaxPool2d)
# From this many weights on, a copy takes longer than calling a Python function.
_LARGE = 2**16
# Values of 16 random bits.
_RANGE = 2**16


def pass_forward(net: nn.Module, inputs: Tensor, places: Places | None = None) -> Tensor:
    """The output of a network in training mode; that of a Sequential by `passes_of`.

    places: those that are used, which saves a copy, are taken out. Any dict gives the same bytes as
    an empty one; None may give others, where layers share a weight.
    """
    if type(net) is not nn.Sequential or inputs.device.type not in ("cpu", "cuda"):
        outputs: Tensor = net(inputs)
        return outputs
    for each in passes_of(net, inputs.device, places):
        inputs = each(inputs)
    return inputs


def passes_of(
    net: nn.Sequential, device: torch.device, places: Places | None = None
) -> list[_Pass]:
    """What computes the layers of a network in training mode, in order.

    The maximum of rectified values is the rectified maximum, so a ReLU before max pooling follows
    it, on a quarter of the values; ReLUs overwrite their input where nobody else reads it. Forward
    and backward, every value is that of the layers in their own order. On a CPU, dropout draws
    other random values than torch, of the same distribution. A network with hooks is left as it is,
    since hooks may read what lies between the layers.
    """
    layers = list(_layers_of(net))
    if any(_has_hooks(layer) for layer in (net, *layers)):
        return [net]
    for place in range(len(layers) - 1):
        if _is_relu(layers[place]) and _is_max_pool(layers[place + 1]):
            layers[place : place + 2] = reversed(layers[place : place + 2])
    before = [None, *layers[:-1]]
    return [
        _pass_of(layer, former, device, places)
        for layer, former in zip(layers, before, strict=True)
    ]


def dropout(values: Tensor, rate: float) -> Tensor:
    """Values with a share of them set to zero, the others scaled up to keep the mean.

    As torch.nn.functional.dropout on a CPU, in a fifth of the time: one number of torch's generator
    decides on four values instead of one. rate: from 0 to 1, in steps of 2**-16.
    """
    dropped = round(rate * _RANGE)
    if dropped == _RANGE:
        return values * 0
    count = values.numel()
    numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    # In the memory order of the values: a product of two orders takes several times as long.
    strides = torch.empty_like(values, device="meta").stride()
    drawn = torch.as_strided(numbers.view(torch.int16), values.shape, strides)
    kept = (drawn >= dropped - _RANGE // 2).to(values.dtype)
    return values * kept.mul_(_RANGE / (_RANGE - dropped))


def _layers_of(net: nn.Sequential) -> Iterator[nn.Module]:
    for layer in net:
        if type(layer) is nn.Sequential and not _has_hooks(layer):
            yield from _layers_of(layer)
        else:
            yield layer


def _has_hooks(layer: nn.Module) -> bool:
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def _pass_of(
    layer: nn.Module, former: nn.Module | None, device: torch.device, places: Places | None
) -> _Pass:
    if _is_relu(layer) and type(former) in _OVERWRITABLE:
        return torch.relu_
    is_cpu = device.type == "cpu"
    if is_cpu and type(layer) is nn.Dropout and layer.training and not layer.inplace:
        return lambda values: dropout(values, layer.p)
    if places is not None and is_cpu and _is_large(layer) and (linear := _linear_of_autocast()):
        # Taken out: where two layers share a weight, one of them has the place. Also without one,
        # since autocast would add the gradients of a shared weight before it makes them float32.
        return partial(linear, layer, places.pop(layer.weight, None))
    is_global = type(layer) is nn.AdaptiveMaxPool2d and layer.output_size in (1, (1, 1))
    if is_global and not is_cpu:
        # The backward pass of the adaptive one adds in any order, even where there is one summand.
        return lambda maps: nn.functional.max_pool2d(maps, maps.shape[-2:])
    return layer


def _is_large(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether writing the gradient of a layer's weights in its place is worth it."""
    return (
        type(layer) is nn.Linear
        and layer.weight.numel() >= _LARGE
        and layer.weight.dtype == torch.float32
        # A hook may keep the gradient, and the next one overwrites its place.
        and not layer.weight._backward_hooks
    )


def _linear_of_autocast() -> Callable[[nn.Linear, Tensor | None, Tensor], Tensor] | None:
    """How a linear layer is computed in the present precision; None where it has no places."""
    if not torch.is_autocast_enabled("cpu"):
        return _linear_in_float32
    return _linear_in_bf16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


def _linear_in_bf16(layer: nn.Linear, place: Tensor | None, values: Tensor) -> Tensor:
    weight = _Rounded.apply(layer.weight, place)
    return nn.functional.linear(values, weight, layer.bias)


def _linear_in_float32(layer: nn.Linear, place: Tensor | None, values: Tensor) -> Tensor:
    # Of more dimensions, the output would be a view, which may not be overwritten.
    is_matrix = values.ndim == 2
    found: Tensor = (
        _Linear.apply(values, layer.weight, layer.bias, place) if is_matrix else layer(values)
    )
    return found


class _Rounded(torch.autograd.Function):
    """A float32 weight in bf16, as autocast makes it, whose gradient is written in its place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, place: Tensor | None) -> Tensor:
        ctx.place = place
        return weight.to(torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if ctx.place is None:
            return gradient.float(), None
        # A view: autograd keeps a gradient as it is only if nobody else has the tensor.
        return ctx.place.copy_(gradient).view_as(gradient), None


class _Linear(torch.autograd.Function):
    """A linear layer that computes the gradient of its weight in its place."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, place: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.place = place
        return nn.functional.linear(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (values, weight) = gradients, ctx.saved_tensors
        of_values, of_weight, of_bias, _ = ctx.needs_input_grad
        # A view: autograd keeps a gradient as it is only if nobody else has the tensor.
        return (
            gradient @ weight if of_values else None,
            torch.mm(gradient.T, values, out=ctx.place).view_as(weight) if of_weight else None,
            gradient.sum(0) if of_bias else None,
            None,
        )


def _is_relu(layer: nn.Module) -> bool:
    return type(layer) is nn.ReLU


def _is_max_pool(layer: nn.Module) -> bool:
    return type(layer) is nn.MaxPool2d and not layer.return_indices
