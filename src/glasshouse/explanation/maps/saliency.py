"""Which pixels the class score depends on: gradients at the image, and related methods.

``inputs`` is the network's input ``(n, 3, h, w)``; ``selector`` ``(n, k)`` weights the logits:
``sum(logits * selector, 1)`` is the score that is explained. Results are signed, in logit units.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.explanation.graph.recording import computing, gradients, input_edge, record
from glasshouse.explanation.methods import Rule
from glasshouse.models.predict import evaluating
from glasshouse.rng import derive

# Input values of one pass that is differentiated, those of 8 images of 32x32: a pass of fewer
# costs more per image, and one of more only memory.
_AT_ONCE = 8 * 3 * 32 * 32


def input_gradients(
    net: nn.Module, inputs: Tensor, selector: Tensor, rule: Rule = "vanilla"
) -> Tensor:
    """The score's gradient at every input value ``(n, 3, h, w)``, under a ReLU rule."""
    recording = record(net, inputs)
    return gradients(recording, selector, [input_edge(recording)], rule)[0]


def largest_channel(gradient: Tensor) -> Tensor:
    """``max |g|`` over the colours ``(n, h, w)`` (Simonyan et al. 2013, section 3.1)."""
    return gradient.abs().amax(1)


def smooth_grad(
    net: nn.Module,
    inputs: Tensor,
    selector: Tensor,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """The mean signed gradient ``(n, 3, h, w)`` of noisy copies (Smilkov et al. 2017).

    noise: standard deviation as a fraction of each image's range of values.
    """
    spread = noise * (inputs.amax((1, 2, 3)) - inputs.amin((1, 2, 3))).view(-1, 1, 1, 1)

    def noisy(sample: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(seed, "smoothgrad", sample))
        # All images get the same noise, so that a map does not depend on the rest of the batch.
        draw = torch.randn(inputs.shape[1:], generator=generator).to(inputs)
        return inputs + spread * draw

    return _weighted_gradients(net, noisy, [1 / samples] * samples, selector)


def integrated_gradients(
    net: nn.Module,
    inputs: Tensor,
    selector: Tensor,
    *,
    baseline: Tensor | None = None,
    steps: int = 50,
) -> Tensor:
    """Shares ``(n, 3, h, w)`` that sum to score minus baseline score (Sundararajan et al. 2017).

    baseline: the input without information; unset: zeros. The path is integrated by
    Gauss-Legendre quadrature with this many steps.
    """
    nothing = torch.zeros_like(inputs) if baseline is None else baseline
    nodes, weights = np.polynomial.legendre.leggauss(steps)

    def point(step: int) -> Tensor:
        return nothing + (float(nodes[step]) + 1) / 2 * (inputs - nothing)

    return _weighted_gradients(net, point, (weights / 2).tolist(), selector) * (inputs - nothing)


def occlusion(
    net: nn.Module,
    inputs: Tensor,
    selector: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 64,
) -> Tensor:
    """The drop in score ``(n, h, w)`` when a square is set to zero (Zeiler and Fergus 2014).

    window: side in pixels; unset: an eighth of the image. stride: unset: half a window. A pixel
    gets the mean drop over all squares that cover it.
    """
    height, width = inputs.shape[2:]
    side = window or max(1, math.ceil(min(height, width) / 8))
    corners = _corners(height, width, side, stride or max(1, side // 2))
    fall, cover = inputs.new_zeros(len(inputs), height, width), inputs.new_zeros(height, width)
    with computing(inputs.device), evaluating(net):
        for index, image in enumerate(inputs):
            weights = selector[index]
            whole = net(image[None])[0] @ weights
            for chunk in _chunks(corners, batch_size):
                scores = net(_covered(image, chunk, side)) @ weights
                for (top, left), score in zip(chunk, scores, strict=True):
                    fall[index, top : top + side, left : left + side] += whole - score
    for top, left in corners:
        cover[top : top + side, left : left + side] += 1
    return fall / cover


def _weighted_gradients(
    net: nn.Module, point: Callable[[int], Tensor], weights: Sequence[float], selector: Tensor
) -> Tensor:
    """The weighted sum of gradients at several inputs ``(n, 3, h, w)``, a few in one pass."""
    total = torch.zeros_like(point(0))
    at_once = max(1, _AT_ONCE // total.numel())
    for start in range(0, len(weights), at_once):
        chosen = range(start, min(start + at_once, len(weights)))
        inputs = torch.cat([point(number) for number in chosen])
        found = input_gradients(net, inputs, selector.repeat(len(chosen), 1))
        for number, gradient in zip(chosen, found.chunk(len(chosen)), strict=True):
            total += weights[number] * gradient
    return total


def _corners(height: int, width: int, side: int, stride: int) -> list[tuple[int, int]]:
    tops = sorted({*range(0, height - side, stride), max(0, height - side)})
    lefts = sorted({*range(0, width - side, stride), max(0, width - side)})
    return [(top, left) for top in tops for left in lefts]


def _chunks(corners: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(corners), size):
        yield corners[start : start + size]


def _covered(image: Tensor, corners: list[tuple[int, int]], side: int) -> Tensor:
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (top, left) in zip(copies, corners, strict=True):
        copy[:, top : top + side, left : left + side] = 0
    # Convolutions are a third faster in this layout, and the scores agree up to rounding.
    return copies.contiguous(memory_format=torch.channels_last)
