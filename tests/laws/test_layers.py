import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from glasshouse.models.layers import build
from glasshouse.settings import ModelSettings

Window = st.integers(1, 5)
Stride = st.integers(1, 3)
Size = st.integers(4, 9)


def _net(layer: dict[str, Any], height: int, width: int) -> torch.nn.Module:
    layers = [layer, {"type": "flatten"}, {"type": "dense", "units": "classes"}]
    settings = ModelSettings.model_validate({"layers": layers})
    net = build(settings, 2, (1, height, width), seed=0)
    return net[:-2]


def _windows(
    image: NDArray[np.float64], window: tuple[int, int], strides: tuple[int, int]
) -> list[list[NDArray[np.float64]]]:
    """What each output position sees: TensorFlow's definition of "same", NaN outside."""
    starts = []
    for size, length, stride in zip(image.shape, window, strides, strict=True):
        count = math.ceil(size / stride)
        total = max((count - 1) * stride + length - size, 0)
        starts.append([index * stride - total // 2 for index in range(count)])
    padded = np.pad(image, 9, constant_values=np.nan)
    return [
        [padded[r + 9 : r + 9 + window[0], c + 9 : c + 9 + window[1]] for c in starts[1]]
        for r in starts[0]
    ]


@given(Size, Size, Window, Window, Stride, Stride)
@settings(max_examples=40, deadline=None)
def test_same_padding_of_a_convolution_is_that_of_tensorflow(
    height: int, width: int, rows: int, columns: int, down: int, right: int
) -> None:
    layer = {
        "type": "conv",
        "filters": 1,
        "kernel_size": (rows, columns),
        "strides": (down, right),
        "padding": "same",
    }
    net = _net(layer, height, width)
    kernel = net.get_parameter("conv1.weight").detach().numpy()[0, 0].astype(np.float64)
    image = np.random.default_rng(0).random((height, width))
    seen = _windows(image, (rows, columns), (down, right))
    expected = [[np.nansum(part * kernel) for part in row] for row in seen]
    output = net(torch.from_numpy(image).float()[None, None])
    np.testing.assert_allclose(output.detach().numpy()[0, 0], expected, atol=1e-5)


@given(Size, Size, Window, Window, Stride, Stride, st.sampled_from(["max_pool", "average_pool"]))
@settings(max_examples=60, deadline=None)
def test_same_padding_of_a_pool_does_not_count_what_is_outside(
    height: int, width: int, rows: int, columns: int, down: int, right: int, kind: str
) -> None:
    layer = {
        "type": kind,
        "pool_size": (rows, columns),
        "strides": (down, right),
        "padding": "same",
    }
    image = np.random.default_rng(1).random((height, width)) - 2
    seen = _windows(image, (rows, columns), (down, right))
    reduce = np.nanmax if kind == "max_pool" else np.nanmean
    expected = [[reduce(part) for part in row] for row in seen]
    output = _net(layer, height, width)(torch.from_numpy(image).float()[None, None])
    np.testing.assert_allclose(output.detach().numpy()[0, 0], expected, atol=1e-5)
