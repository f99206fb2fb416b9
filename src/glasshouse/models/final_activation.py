"""The softmax or sigmoid from which a network's answer comes, found in the graph and left off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from glasshouse.errors import ModelError

Kind = Literal["softmax", "log-softmax", "sigmoid", "log-sigmoid"]

# Modules such as nn.Softmax call one of these functions, too.
_KINDS: dict[Callable[..., Any], Kind] = {
    functional.softmax: "softmax",
    torch.softmax: "softmax",
    torch.Tensor.softmax: "softmax",
    torch.special.softmax: "softmax",
    functional.log_softmax: "log-softmax",
    torch.log_softmax: "log-softmax",
    torch.Tensor.log_softmax: "log-softmax",
    torch.special.log_softmax: "log-softmax",
    functional.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
    torch.sigmoid_: "sigmoid",
    torch.Tensor.sigmoid: "sigmoid",
    torch.Tensor.sigmoid_: "sigmoid",
    torch.special.expit: "sigmoid",
    functional.logsigmoid: "log-sigmoid",
}
# After these, probabilities are still recognised as those of the activation, by their values.
_ADJUSTMENTS = ("Clamp", "ClampMin", "ClampMax", "Log", "Exp", "NanToNum")
# By how much adjusted probabilities may differ from those of the activation.
_NEAR = 1e-4
# Operations that change the shape, the place or the type of values, and nothing else.
_CARRIERS = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "ToCopy", "T",
    "Transpose", "Permute", "Select", "Slice", "Alias", "Expand",
)  # fmt: skip
_SCALINGS = ("Mul", "Div", "Add", "Sub", "Rsub", "Neg")
# Operations whose results stay within the limits of what they are given.
_POOLINGS = (
    "Mean", "AdaptiveAvgPool2D", "AvgPool2D", "AdaptiveMaxPool2D", "MaxPool2DWithIndices", "Amax",
    "Amin", "Max", "Min", "Median", "Index", "IndexSelect", "Gather",
)  # fmt: skip
_JOINS = ("Cat", "Stack", "Add", "Sub", "Mul", "Maximum", "Minimum")
# Operations with results between two limits, such as 0 and 1.
BOUNDED = (
    "Sigmoid", "Hardsigmoid", "Softmax", "Tanh", "Hardtanh", "Clamp", "Erf", "Reciprocal",
)  # fmt: skip


@dataclass(frozen=True)
class FinalActivation:
    """One call of an activation among all of its kind with results of the same shape.

    shape: of its result, without the batch. number: which of the calls, counted from 0; calls: how
    many there are in one forward pass. axis: that of a softmax. is_adjusted: whether operations
    follow that keep its values nearly as they are, such as a clamp, or take their logarithms.
    """

    kind: Kind
    shape: tuple[int, ...]
    number: int
    calls: int
    axis: int | None = None
    is_adjusted: bool = False


@dataclass(frozen=True)
class _Call:
    """A call of an activation: its place in the graph or, without one, its result.

    With a graph the result is not kept, as the attention of a large image takes gigabytes. values:
    of a result without places, which is small.
    """

    kind: Kind
    shape: tuple[int, ...]
    axis: int | None
    node: Node | None
    result: Tensor | None
    values: Tensor | None = None

    @property
    def like(self) -> tuple[Kind, tuple[int, ...]]:
        return self.kind, self.shape

    def gives(self, answer: Tensor, node: Node | None) -> bool:
        """Whether an answer, of which the node is the origin, is its result or a view of it."""
        if node is not None:
            return self.node is node
        if self.result is None:
            return False
        # A result that only changed its shape still shares its memory.
        return self.result.untyped_storage().data_ptr() == answer.untyped_storage().data_ptr()

    def nearly_gives(self, answer: Tensor) -> bool:
        """Whether an answer that comes from its result has the same probabilities."""
        if self.values is None or self.values.numel() != answer.numel():
            return False
        values = self.values.reshape(answer.shape)
        wanted = values.exp() if self.kind.startswith("log") else values
        found = answer.detach()
        return any(
            bool(((each - wanted).abs() <= _NEAR).all())
            for each in (found, found / 100, found.exp())
        )


class Watching(TorchFunctionMode):
    """Notes the calls of activations while a network runs."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and note it if it is an activation."""
        result = func(*args, **(kwargs or {}))
        if func in _KINDS and isinstance(result, Tensor):
            kind = _KINDS[func]
            axis = _axis(args, kwargs or {}, result) if "softmax" in kind else None
            node = result.grad_fn
            kept = result if node is None else None
            values = result.detach().clone() if result.ndim <= 2 else None
            self._calls.append(_Call(kind, tuple(result.shape[1:]), axis, node, kept, values))
        return result

    def final(self, answer: Tensor) -> tuple[FinalActivation | None, str]:
        """The activation that an answer comes from, and the name of the answer's last operation.

        Operations with a constant are skipped for the name, as in ``1 - x`` and ``x / 2``; poolings
        and sums as well, where all that they take comes from an operation with limits.
        """
        node = _origin(answer.grad_fn)
        for call in self._calls:
            if call.gives(answer, node):
                return self._described(call), call.kind
        adjusted = _before_scaling(node, _ADJUSTMENTS)
        for call in self._calls:
            if adjusted is not None and call.node is adjusted and call.nearly_gives(answer):
                return replace(self._described(call), is_adjusted=True), call.kind
        last, inner = _before_scaling(node), _source(node)
        is_inner = _name(inner) in BOUNDED or _name(last) in ("Cat", "Stack")
        return None, _name(inner if is_inner else last)

    def _described(self, call: _Call) -> FinalActivation:
        alike = [each for each in self._calls if each.like == call.like]
        number = next(place for place, each in enumerate(alike) if each is call)
        return FinalActivation(*call.like, number, len(alike), call.axis)


class LeavingOff(TorchFunctionMode):
    """While a network runs, its final activation returns what it is given.

    Where its values are adjusted afterwards, it is computed, and `given` is what it was given.
    """

    def __init__(self, final: FinalActivation) -> None:
        super().__init__()
        self._final = final
        self._seen = 0
        self.given: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, unless it is the one that is left off."""
        if _KINDS.get(func) == self._final.kind:
            given = args[0] if args else (kwargs or {})["input"]
            if tuple(given.shape[1:]) == self._final.shape:
                self._seen += 1
                if self._seen == self._final.number + 1:
                    if not self._final.is_adjusted:
                        return given
                    # A copy, as the activation may write into it.
                    self.given = given.clone()
        return func(*args, **(kwargs or {}))

    def require_found(self) -> None:
        """Raise ModelError unless the network made the calls that it made in its trial."""
        if self._seen != self._final.calls:
            raise ModelError(
                f"the network ended in a {self._final.kind} for trial images, but computes these "
                f"ones in another way: pass a network that returns the values before it"
            )


def _origin(node: Node | None) -> Node | None:
    """The operation that computed a value, before others that only carry it."""
    while node is not None and _name(node) in _CARRIERS:
        node = node.next_functions[0][0]
    return node


def _before_scaling(node: Node | None, others: Sequence[str] = ()) -> Node | None:
    while node is not None and _name(node) in (*_CARRIERS, *_SCALINGS, *others):
        inputs = [each for each, _ in node.next_functions if each is not None]
        if len(inputs) != 1 or _name(inputs[0]) == "AccumulateGrad":
            return node
        node = inputs[0]
    return node


def _source(node: Node | None) -> Node | None:
    """The operation that a value comes from, before poolings and joins of values of one kind."""
    found = _before_scaling(node)
    while found is not None and _name(found) in _POOLINGS:
        node = found.next_functions[0][0]
        found = _before_scaling(node)
    if found is None or _name(found) not in _JOINS:
        return found
    sources = [_source(each) for each, _ in found.next_functions if each is not None]
    names = {_name(each) for each in sources}
    is_alike = len(names) == 1 and _name(found) in ("Cat", "Stack")
    return sources[0] if sources and (is_alike or names <= set(BOUNDED)) else found


def _name(node: Node | None) -> str:
    return "" if node is None else node.name().rpartition("::")[2].partition("Backward")[0]


def _axis(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor) -> int | None:
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    if given is None:
        # What softmax does without a dim.
        return 0 if result.ndim in (0, 1, 3) else 1
    return int(given) % result.ndim if isinstance(given, int) else None
