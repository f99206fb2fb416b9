"""The vanilla, guided and deconvnet ("relu") rules for gradients that pass back through a ReLU.

For ``y = max(x, 0)`` and the gradient p that arrives at y:

- vanilla: ``p * [x > 0]``, the derivative
- relu: ``p * [p > 0]`` (Zeiler and Fergus 2014, "deconvnet")
- guided: ``p * [p > 0] * [x > 0]`` (Springenberg et al. 2015)

The rules act on the ReLU operations of the autograd graph. Modules, functions, in-place, reused and
nested ReLUs are therefore all treated alike, and a gradient that reaches x along another path is
left unchanged.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.autograd.graph import Node

from glasshouse.errors import ModelError
from glasshouse.explanation.methods import Rule

Kind = Literal["relu", "relu6", "other", "hidden", "none"]

# Activations for which the rules are not defined; they keep their derivative.
_OTHER_ACTIVATIONS = {
    "LeakyRelu": "LeakyReLU", "PreluKernel": "PReLU", "RreluWithNoise": "RReLU", "Silu": "SiLU",
    "Gelu": "GELU", "Elu": "ELU", "Celu": "CELU", "Mish": "Mish", "Hardswish": "Hardswish",
    "Softplus": "Softplus", "Tanh": "tanh", "Hardtanh": "Hardtanh", "Clamp": "clamp",
}  # fmt: skip
_HIDING = ("CompiledFunction", "DifferentiableGraph", "CheckpointFunction")


@dataclass(frozen=True)
class ReluCount:
    """How many activations of each kind lie between a logit and what is explained.

    other: counts by name of the activations that the rules leave unchanged.
    """

    relu: int = 0
    relu6: int = 0
    other: tuple[tuple[str, int], ...] = ()

    @property
    def changed(self) -> int:
        """The operations that a rule acts on."""
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
    """How the rules treat a node of the graph."""
    name = node.name()
    if name == "ReluBackward0":
        return "relu"
    if name.startswith(_HIDING):
        return "hidden"
    if name.startswith(("Threshold", "Hardtanh", "Clamp")):
        return _kind_of_bounds(*_bounds(node, name))
    return "other" if _stem(name) in _OTHER_ACTIVATIONS else "none"


def require_open_graph(nodes: Iterable[Node]) -> None:
    """Raise ModelError when part of the graph is opaque."""
    hidden = sorted({_stem(node.name()) for node in nodes if kind_of(node) == "hidden"})
    if hidden:
        raise ModelError(
            "the guided and relu rules need every operation of the network, but some are hidden in "
            f"{', '.join(hidden)}: explain the network as it was before torch.compile, torch.jit "
            "or activation checkpointing"
        )


def describe_count(
    count: ReluCount, rule: Rule, behind: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sentences on what a rule did: notes, then warnings; behind says where the operations are."""
    if rule == "vanilla":
        return (), ()
    notes, warnings = [], []
    if count.changed:
        notes.append(f"The {rule} rule was applied to {count.changed} ReLU operations {behind}.")
    else:
        warnings.append(
            f"The {rule} rule has no ReLU to act on {behind}: this map is identical to the vanilla "
            "map."
        )
    if count.relu6:
        warnings.append(
            f"{count.relu6} ReLU operations are ReLU6: the {rule} rule was applied with the gate "
            "0 < x < 6, which its paper does not define and other libraries omit."
        )
    if count.other:
        names = ", ".join(f"{number} {name}" for name, number in count.other)
        warnings.append(f"The {rule} rule is not defined for {names}; these keep their derivative.")
    return tuple(notes), tuple(warnings)


@contextmanager
def applied(rule: Rule, nodes: Iterable[Node]) -> Iterator[None]:
    """Apply a rule at the ReLUs among the nodes during backward passes; hooks are then removed."""
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
    # The node itself applies [x > 0]. Its buffer may be shared with a skip connection, so nothing
    # is changed in place.
    return node.register_prehook(lambda arriving: _positive_parts(arriving))


def _deconvnet(node: Node) -> Any:
    return node.register_hook(_replace_by_arriving)


def _replace_by_arriving(
    leaving: tuple[Tensor | None, ...], arriving: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    # Only the first gradient belongs to the input: a clamp's bounds may have their own.
    return (*_positive_parts(arriving[:1]), *leaving[1:])


def _positive_parts(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if each is None else each.clamp(min=0) for each in gradients)


_HOOKS: dict[str, Callable[[Node], Any]] = {"guided": _guided, "relu": _deconvnet}


def _bounds(node: Any, name: str) -> tuple[float | None, float | None]:
    if name.startswith("Threshold"):
        return node._saved_threshold, None
    if name.startswith("Hardtanh"):
        return node._saved_min_val, node._saved_max_val
    # A clamp by tensors saves tensors and is not a plain ReLU; clamp_max saves no lower bound.
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
