"""Faster weight gradients of convolutions over small feature maps, in bf16 on a CPU."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.overrides import TorchFunctionMode

from glasshouse.training.precision import has_matrix_tiles

# A matrix tile holds 32 bf16 values, and oneDNN fills it from a single row of one map: rows of 7
# pixels leave most of it empty. Wider rows, or fewer channels, gained nothing when measured.
_TILE = 32
_WIDEST, _FEWEST_CHANNELS = 12, 64
# On a small batch, intercepting every torch function costs more than it gains.
_FEWEST_VALUES = 128 * 3 * 32 * 32
# The defaults of torch.conv2d: stride, padding, dilation, groups.
_PLAIN: tuple[Any, ...] = ((1, 1), (0, 0), (1, 1), 1)
_PLAIN_STEPS = ((1, 1), (1, 1), 1)

_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def faster_convolutions(images: Tensor) -> AbstractContextManager[object]:
    """SideBySide where it pays: on a CPU with matrix tiles, for a large enough batch."""
    pays = images.is_cpu and has_matrix_tiles() and images.numel() >= _FEWEST_VALUES
    return SideBySide() if pays else nullcontext()


class SideBySide(TorchFunctionMode):
    """A context in which weight gradients over small maps are computed from maps side by side.

    Every result is the same sum in another order. Affects convolutions in bf16 autocast on a CPU
    with stride 1, an odd kernel and "same" padding; all others are unchanged.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is conv2d and not kwargs and _is_small(*args):
            inputs, weight, bias = (None if t is None else t.to(torch.bfloat16) for t in args[:3])
            return _Convolution.apply(inputs, weight, bias)
        return func(*args, **(kwargs or {}))


def maps_in_a_row(maps: Tensor, weight: Tensor) -> int:
    """How many maps ``(n, c, h, w)`` are laid side by side for kernels ``(k, c, kh, kw)``."""
    pitch = maps.shape[-1] + weight.shape[-1] // 2
    count = 1
    while 2 * count * pitch <= _TILE and maps.shape[0] % (2 * count) == 0:
        count *= 2
    return count


def _is_small(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *how: Any) -> bool:
    """True for the arguments of a conv2d that gains: small maps in bf16 autocast on a CPU."""
    stride, padding, dilation, groups = how + _PLAIN[len(how) :]
    kernel = tuple(weight.shape[2:])
    is_same = padding == tuple(size // 2 for size in kernel) and all(size % 2 for size in kernel)
    return (
        inputs.shape[-1] <= _WIDEST
        and min(weight.shape[:2]) >= _FEWEST_CHANNELS
        and weight.requires_grad
        and (stride, dilation, groups) == _PLAIN_STEPS
        and is_same
        and max(kernel) > 1
        and maps_in_a_row(inputs, weight) > 1
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _Convolution(torch.autograd.Function):
    """A convolution with stride 1 and "same" padding, and a backward pass of our own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return conv2d(inputs, weight, bias, padding=_padding(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> _Gradients:
        inputs, weight = ctx.saved_tensors
        by_input, has_weight, has_bias = ctx.needs_input_grad
        to_input, _, to_bias = _backward(gradient, inputs, weight, (by_input, False, has_bias))
        if not has_weight:
            return to_input, None, to_bias
        count = maps_in_a_row(inputs, weight)
        gap = weight.shape[-1] // 2
        wide_gradient, wide_inputs = (
            _side_by_side(maps, count, gap) for maps in (gradient, inputs)
        )
        _, to_weight, _ = _backward(wide_gradient, wide_inputs, weight, (False, True, False))
        return to_input, to_weight, to_bias


def _side_by_side(maps: Tensor, count: int, gap: int) -> Tensor:
    """Each ``count`` maps of ``(n, c, h, w)`` as one: ``(n / count, c, h, count (w + gap))``.

    The columns of zeros between neighbours are padding for both, so no kernel sees two images.
    """
    n, c, h, w = maps.shape
    row = maps.new_zeros(n // count, h, count, w + gap, c)
    row[:, :, :, :w] = maps.permute(0, 2, 3, 1).reshape(n // count, count, h, w, c).transpose(1, 2)
    return row.view(n // count, h, count * (w + gap), c).permute(0, 3, 1, 2)


def _backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> _Gradients:
    bias_sizes = [weight.shape[0]] if wanted[2] else None
    one = [1, 1]
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient, inputs, weight, bias_sizes, one, _padding(weight), one, False, [0, 0], 1, wanted
    )


def _padding(weight: Tensor) -> list[int]:
    return [size // 2 for size in weight.shape[2:]]
