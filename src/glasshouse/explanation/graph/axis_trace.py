"""The axes of a layer's output, followed through the graph back to those of the image."""

from typing import Any

from torch.autograd.graph import GradientEdge, Node

from glasshouse.explanation.graph.recording import Recording, input_edge

# Operations whose result at a place comes from that place, of operands of the same shape.
_POINTWISE = frozenset((
    "Add", "Sub", "Mul", "Div", "Neg", "Clone", "Alias", "ToCopy", "Sigmoid", "Erf", "Pow",
    "Relu", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Silu", "Gelu", "Elu", "Celu", "Mish",
    "Hardswish", "Hardsigmoid", "Softplus", "Tanh", "Hardtanh", "Clamp", "ClampMin", "Threshold",
    "NativeDropout", "NativeLayerNorm", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm",
    "NativeGroupNorm", "FusedRmsNorm",
))  # fmt: skip
# Operations that slide over the last two axes; the result has as many axes as their input.
_SLIDING = frozenset((
    "Convolution", "MkldnnConvolution", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D",
    "UpsampleNearest2D", "UpsampleBilinear2D", "UpsampleBicubic2D", "ConstantPadNd",
))  # fmt: skip
_ALL_CHANNELS = frozenset(("Convolution", "MkldnnConvolution"))
# For each axis of a layer's output: the axis of a node's result that it corresponds to.
_Axes = tuple[int, ...]


class AxisTrace:
    """Finds paths from outputs back to the image that only contain operations that keep places.

    One such path is enough: where a sum of equal shapes has it in one operand, the places of the
    sum are those of this operand.
    """

    def __init__(self, recording: Recording) -> None:
        self._image = input_edge(recording).node

    def order_of(self, edge: GradientEdge) -> tuple[int, ...] | None:
        """The axes of an output that are the image's (n, channels, rows, columns); None: unknown.

        edge: where the gradient of the output is found.
        """
        if len(_shape(edge.node, edge.output_nr)) != 4:
            return None
        start: _Step = (edge.node, edge.output_nr, (0, 1, 2, 3), frozenset())
        waiting, seen = [start], {start}
        while waiting:
            node, number, axes, mixed = waiting.pop()
            if node is self._image:
                # An operation that mixes all values along an axis must have mixed the channels.
                if axes[0] == 0 and all(axes[axis] == 1 for axis in mixed):
                    return tuple(axes.index(axis) for axis in range(4))
                continue
            for step in _steps(node, number, axes, mixed):
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
        return None


_Step = tuple[Node, int, _Axes, frozenset[int]]


def _steps(node: Node, number: int, axes: _Axes, mixed: frozenset[int]) -> list[_Step]:
    """The operands whose places are those of the result."""
    name = node.name().split("Backward")[0]
    operands = [(child, nr) for child, nr in node.next_functions if child is not None]
    shape = _shape(node, number)
    if name in _POINTWISE:
        return [(*each, axes, mixed) for each in operands if _shape(*each) == shape]
    if name in _SLIDING:
        if len(shape) != 4:
            return []
        now = mixed | {axes.index(1)} if name in _ALL_CHANNELS else mixed
        return [(*each, axes, now) for each in operands[:1]]
    if name in ("Permute", "Transpose"):
        dims = _dims(node, name)
        return [(*each, tuple(dims[axis] for axis in axes), mixed) for each in operands]
    if name in ("View", "UnsafeView"):
        inner = _dense_input(node)
        if inner is None or _shape(*inner)[:-1] != shape[:-1]:
            return []
        return [(*inner, axes, mixed | {axes.index(3)})]
    if name == "Cat":
        return _joined(operands, shape, axes, mixed)
    return []


def _joined(
    operands: list[tuple[Node, int]], shape: tuple[int, ...], axes: _Axes, mixed: frozenset[int]
) -> list[_Step]:
    """The operands of a concatenation along one axis, which must be that of the channels."""
    found: list[_Step] = []
    for each in operands:
        other = _shape(*each)
        if len(other) != len(shape):
            continue
        apart = [
            axis for axis, pair in enumerate(zip(shape, other, strict=True)) if len({*pair}) > 1
        ]
        if len(apart) == 1:
            found.append((*each, axes, mixed | {axes.index(apart[0])}))
    return found


def _dense_input(node: Node) -> tuple[Node, int] | None:
    """The input of a dense layer, which flattens all axes but the last and restores them."""
    product = node.next_functions[0][0]
    if product is None or product.name().split("Backward")[0] not in ("Addmm", "Mm"):
        return None
    for flat, _ in product.next_functions:
        if flat is not None and flat.name().split("Backward")[0] in ("View", "ReshapeAlias"):
            inner, number = flat.next_functions[0]
            return None if inner is None else (inner, number)
    return None


def _dims(node: Any, name: str) -> tuple[int, ...]:
    """Which axis of the operand each axis of the result was."""
    if name == "Permute":
        return tuple(_wrapped(dim) for dim in node._saved_dims)
    dims = list(range(4))
    one, other = (_wrapped(dim) for dim in (node._saved_dim0, node._saved_dim1))
    dims[one], dims[other] = dims[other], dims[one]
    return tuple(dims)


def _wrapped(dim: int) -> int:
    # The graph stores negative numbers as unsigned ones.
    return (dim - 2**64 if dim >= 2**63 else dim) % 4


def _shape(node: Any, number: int) -> tuple[int, ...]:
    return tuple(node._input_metadata[number].shape)
