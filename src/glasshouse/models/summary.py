"""Output shapes, parameters and multiply-adds of any network."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glasshouse.errors import ModelError, require_type
from glasshouse.models.predict import evaluating

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Row:
    """One layer; macs: multiply-adds per image, over all calls of the layer.

    output_shape: of its last call, without the batch dimension; None if the forward pass does not
    call it. Shared parameters are counted in the first layer that has them.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    parameters: int
    trainable: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """The layers in the order of the module tree, and their totals.

    Multiply-adds are counted for convolutions and dense layers, without biases. Normalisation,
    activations, pooling and operations that are no modules (attention products, sums) are not
    counted.
    """

    rows: tuple[Row, ...]
    input_shape: tuple[int, ...]
    parameters: int
    trainable: int
    macs: int


def summarize(net: nn.Module, input_shape: tuple[int, ...]) -> Summary:
    """Measure each layer in a forward pass of a blank image; the network is left unchanged.

    input_shape: ``(3, h, w)``. Raises ModelError if the network does not accept this shape.
    """
    require_type(net, nn.Module, "a network, such as classifier.net")
    calls = _run(net, input_shape)
    counted: set[Tensor] = set()
    rows = tuple(
        _row(name, module, calls.get(module, []), counted)
        for name, module in net.named_modules()
        if _is_row(module)
    )
    return Summary(
        rows,
        tuple(input_shape),
        sum(row.parameters for row in rows),
        sum(row.trainable for row in rows),
        sum(row.macs for row in rows),
    )


def format_summary(summary: Summary) -> str:
    """The summary as an aligned table of plain text."""
    head = ("layer", "type", "output shape", "parameters", "multiply-adds")
    lines = [("input", "", _shape(summary.input_shape), "", "")]
    lines += [_cells(row) for row in summary.rows]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    rule = "  ".join("-" * width for width in widths)
    table = [_aligned(head, widths), rule, *(_aligned(line, widths) for line in lines), rule]
    frozen = summary.parameters - summary.trainable
    return "\n".join(
        [
            *table,
            f"{summary.parameters:,} parameters, {summary.trainable:,} trainable, {frozen:,} "
            f"frozen; {summary.macs:,} multiply-adds per image",
        ]
    )


def _run(net: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, list[tuple[Tensor, ...]]]:
    first = next(net.parameters(), torch.zeros(0))
    kind = first.dtype if first.is_floating_point() else torch.float32
    blank = torch.zeros(1, *input_shape, dtype=kind, device=first.device)
    with _recording(net) as calls, evaluating(net), torch.no_grad():
        try:
            net(blank)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            shape = _shape(input_shape)
            raise ModelError(
                f"the network does not accept images of {shape} (channels x height x width): "
                f"{reason}"
            ) from error
    return calls


@contextmanager
def _recording(net: nn.Module) -> Iterator[dict[nn.Module, list[tuple[Tensor, ...]]]]:
    """Record (input, output) of each call as meta tensors; hooks are removed afterwards."""
    calls: dict[nn.Module, list[tuple[Tensor, ...]]] = {}

    def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        tensors = [value for value in (*inputs[:1], output) if isinstance(value, Tensor)]
        if len(tensors) == 2:
            # Only shapes are needed; the maps of a large network would fill the memory.
            calls.setdefault(module, []).append(tuple(t.to("meta") for t in tensors))

    handles = [m.register_forward_hook(record) for m in net.modules() if _is_row(m)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is_row(module: nn.Module) -> bool:
    """Leaves, and modules with parameters in addition to their children's."""
    is_leaf = next(module.children(), None) is None
    return is_leaf or next(module.parameters(recurse=False), None) is not None


def _row(
    name: str, module: nn.Module, calls: list[tuple[Tensor, ...]], counted: set[Tensor]
) -> Row:
    new = [p for p in module.parameters(recurse=False) if p not in counted]
    counted.update(new)
    return Row(
        name or "(network)",
        type(module).__name__,
        tuple(calls[-1][1].shape[1:]) if calls else None,
        sum(p.numel() for p in new),
        sum(p.numel() for p in new if p.requires_grad),
        sum(_macs(module, inputs, output) for inputs, output in calls),
    )


def _macs(module: nn.Module, inputs: Tensor, output: Tensor) -> int:
    if isinstance(module, _CONVOLUTIONS):
        window = module.in_channels // module.groups * math.prod(module.kernel_size)
        return output.numel() * window
    if isinstance(module, _TRANSPOSED):
        window = module.out_channels // module.groups * math.prod(module.kernel_size)
        return inputs.numel() * window
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    shape = "not called" if row.output_shape is None else _shape(row.output_shape)
    parameters = f"{row.parameters:,}" if row.parameters else ""
    if row.trainable < row.parameters:
        parameters += " (frozen)" if not row.trainable else " (in part)"
    return row.name, row.kind, shape, parameters, f"{row.macs:,}" if row.macs else ""


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join(left + right).rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
