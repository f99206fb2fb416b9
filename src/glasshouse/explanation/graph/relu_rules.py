"""What may pass back through a ReLU: the vanilla, guided and deconvnet ("relu") rules.

For ``y = max(x, 0)`` and the gradient p that arrives at y:

- vanilla: ``p * [x > 0]``, the derivative
- relu: ``p * [p > 0]`` (Zeiler and Fergus 2014, "deconvnet")
- guided: ``p * [p > 0] * [x > 0]`` (Springenberg et al. 2015)

The rules act on the ReLU operations of the autograd graph, so that modules, functions, in-place,
reused and nested ReLUs are all alike, and a gradient that reaches x by another way is left alone.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.autograd.graph import Node

from glasshouse.errors import ModelError

Rule = Literal["vanilla", "guided", "relu"]
Kind = Literal["relu", "relu6", "other", "hidden", "none"]

# Activations for which the rules are not defined; their own derivative stays in place.
_OTHER_ACTIVATIONS = {
    "LeakyRelu": "LeakyReLU", "PreluKernel": "PReLU", "RreluWithNoise": "RReLU", "Silu": "SiLU",
    "Gelu": "GELU", "Elu": "ELU", "Celu": "CELU", "Mish": "Mish", "Hardswish": "Hardswish",
    "Softplus": "Softplus", "Tanh": "tanh", "Hardtanh": "Hardtanh", "Clamp": "clamp",
}  # fmt: skip
_HIDING = ("CompiledFunction", "DifferentiableGraph", "CheckpointFunction")


class ExplanationWarning(UserWarning):
    """An image that may mislead, and why."""


@dataclass(frozen=True)
class ReluCount:
    """How many operations of each kind lie between a logit and what is explained.

    other: counts by name of the activations that a rule leaves as they are.
    """

    relu: int = 0
    relu6: int = 0
    other: tuple[tuple[str, int], ...] = ()

    @property
    def changed(self) -> int:
        """Operations that a rule acts on."""
        return self.relu + self.relu6


def count_relus(nodes: Iterable[Node]) -> ReluCount:
    """Count the activations among these nodes of a graph."""
    kinds = [(kind_of(node), node) for node in nodes]
    other = Counter(_name_of(node) for kind, node in kinds if kind == "other")
    return ReluCount(
        relu=sum(kind == "relu" for kind, _ in kinds),
        relu6=sum(kind == "relu6" for kind, _ in kinds),
        other=tuple(sorted(other.items())),
    )


def kind_of(node: Node) -> Kind:
    """What a node of the graph is to the rules."""
    name = node.name()
    if name == "ReluBackward0":
        return "relu"
    if name.startswith(_HIDING):
        return "hidden"
    if name.startswith(("Threshold", "Hardtanh", "Clamp")):
        return _kind_of_bounds(*_bounds(node, name))
    return "other" if _stem(name) in _OTHER_ACTIVATIONS else "none"


def require_open_graph(nodes: Iterable[Node]) -> None:
    """Raise ModelError when a part of the graph cannot be looked into."""
    hidden = sorted({_stem(node.name()) for node in nodes if kind_of(node) == "hidden"})
    if hidden:
        raise ModelError(
            "the guided and relu rules need every operation of the network, but a part of it is "
            f"hidden in {', '.join(hidden)}: explain the network as it was before torch.compile, "
            "torch.jit or activation checkpointing"
        )


def describe_count(count: ReluCount, rule: Rule, behind: str) -> tuple[str, ...]:
    """Plain words on what a rule did; behind names where the operations lie.

    The first sentence says how many operations were changed, the others are warnings.
    """
    if rule == "vanilla":
        return ()
    words = [f"The {rule} rule acted on {count.changed} ReLU operations {behind}."]
    if not count.changed:
        words = [
            f"The {rule} rule has no ReLU to act on {behind}: this is the vanilla map under "
            "another name."
        ]
    if count.relu6:
        words.append(
            f"{count.relu6} ReLU operations are ReLU6: the {rule} rule was applied with "
            "the gate 0 < x < 6, which its paper does not define and other libraries leave out."
        )
    if count.other:
        names = ", ".join(f"{number} {name}" for name, number in count.other)
        words.append(
            f"The {rule} rule is not defined for {names}; these keep their own derivative."
        )
    return tuple(words)


def warn_of_count(count: ReluCount, rule: Rule, behind: str) -> None:
    """Issue an ExplanationWarning where a rule did nothing, or not what its paper defines."""
    words = describe_count(count, rule, behind)
    doubtful = words if not count.changed else words[1:]
    for sentence in doubtful:
        warnings.warn(sentence, ExplanationWarning, stacklevel=2)


@contextmanager
def applied(rule: Rule, nodes: Iterable[Node]) -> Iterator[None]:
    """Backward passes inside follow the rule at the ReLUs among the nodes; hooks go afterwards."""
    handles: list[Any] = []
    try:
        for node in nodes if rule != "vanilla" else ():
            if kind_of(node) in ("relu", "relu6"):
                handles.append(_HOOKS[rule](node))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _guided(node: Node) -> Any:
    # The node itself applies [x > 0]; its buffer may be shared with a skip, so nothing in place.
    return node.register_prehook(lambda arriving: _positive_parts(arriving))


def _deconvnet(node: Node) -> Any:
    return node.register_hook(_replace_by_arriving)


def _replace_by_arriving(
    leaving: tuple[Tensor | None, ...], arriving: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    # Only the first gradient is the input's: a clamp's bounds may have gradients of their own.
    return (*_positive_parts(arriving[:1]), *leaving[1:])


def _positive_parts(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if each is None else each.clamp(min=0) for each in gradients)


_HOOKS: dict[str, Callable[[Node], Any]] = {"guided": _guided, "relu": _deconvnet}


def _bounds(node: Any, name: str) -> tuple[float | None, float | None]:
    if name.startswith("Threshold"):
        return node._saved_threshold, None
    if name.startswith("Hardtanh"):
        return node._saved_min_val, node._saved_max_val
    # Clamp by tensors saves tensors and is no plain ReLU; clamp_max saves no lower bound.
    lower, upper = getattr(node, "_saved_min", None), getattr(node, "_saved_max", None)
    return (_number(lower), _number(upper))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _kind_of_bounds(lower: float | None, upper: float | None) -> Kind:
    if lower != 0:
        return "other" if lower is not None or upper is not None else "none"
    return "relu" if upper is None or upper == float("inf") else "relu6"


def _stem(name: str) -> str:
    return name.split("Backward")[0]


def _name_of(node: Node) -> str:
    stem = _stem(node.name())
    return _OTHER_ACTIVATIONS.get(stem, stem)
