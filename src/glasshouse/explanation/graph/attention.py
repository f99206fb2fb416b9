"""The attention layers of a recorded forward pass, read from its graph.

Nothing is replaced or intercepted: a fused attention keeps its queries, keys and values for the
backward pass, from which its weights are computed again, and the answer is that of the network.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from glasshouse.explanation.graph.recording import full, nodes_below

_FUSED, _SOFTMAX = "ScaledDotProduct", ("Softmax", "SafeSoftmax", "_SafeSoftmax")
# Operations between the weights and the product with the values that do not change the weights.
_UNCHANGING = frozenset((
    "View", "UnsafeView", "ReshapeAlias", "Expand", "Clone", "Alias", "ToCopy", "NativeDropout",
))  # fmt: skip
# A recomputed attention must give the output that the network used.
_ALLOWED_ERROR = 1e-3


@dataclass(frozen=True)
class Attention:
    """One attention layer, whose weights have the shape ``(n, heads, queries, keys)``.

    edge: where a gradient is found that `gradient` turns into that of the weights. is_plain:
    whether the weights of each query sum to 1 over the keys, and multiply the values as they are.
    """

    shape: tuple[int, ...]
    edge: GradientEdge
    is_plain: bool

    def weights(self) -> Tensor:
        """Its weights; those of a fused attention are computed again, as many are gigabytes."""
        return _weights(self.edge.node, self.shape[0])

    def gradient(self, at_edge: Tensor) -> Tensor:
        """The gradient of the weights, of their own shape."""
        node: Any = self.edge.node
        if not _is_fused(node):
            return at_edge.reshape(self.shape)
        return full(at_edge) @ full(_of_each_head(node, node._saved_value)).transpose(-2, -1)


def last_attention(logits: Tensor) -> Node | None:
    """The last operation of an attention layer before the logits; None where there is none."""
    return max(_attention_nodes(nodes_below(logits.grad_fn)), key=_order, default=None)


def attention_layers(logits: Tensor) -> tuple[Attention, ...]:
    """Every attention layer behind the logits ``(n, k)``, in the order of the forward pass."""
    users = nodes_below(logits.grad_fn)
    nodes = sorted(_attention_nodes(users), key=_order)
    return tuple(_read(node, len(logits), users) for node in nodes)


def are_consecutive(layers: tuple[Attention, ...]) -> bool:
    """Whether each attention layer gets, directly or not, what the one before returned."""
    nodes = [layer.edge.node for layer in layers]
    return all(one in nodes_below(other) for one, other in pairwise(nodes))


def _read(node: Any, count: int, users: Mapping[Node, list[Node]]) -> Attention:
    weights, edge = _weights(node, count), GradientEdge(node, 0)
    if not _is_fused(node):
        is_plain = _is_over_keys(node) and _multiplies_values(node, users)
        return Attention(tuple(weights.shape), edge, is_plain)
    values = _of_each_head(node, node._saved_value)
    error = (weights @ full(values) - node._saved_output.detach()).abs().max()
    allowed = max(_ALLOWED_ERROR, 4 * torch.finfo(values.dtype).eps)
    is_same = bool(error <= allowed * node._saved_output.abs().max())
    return Attention(tuple(weights.shape), edge, is_same)


def _weights(node: Any, count: int) -> Tensor:
    if not _is_fused(node):
        weights: Tensor = node._saved_result.detach()
        # Some implementations make one axis of images and heads.
        if weights.ndim == 3 and len(weights) % count == 0:
            weights = weights.view(count, -1, *weights.shape[1:])
        return weights
    query, key = node._saved_query.detach(), _of_each_head(node, node._saved_key)
    scale = node._saved_scale or query.shape[-1] ** -0.5
    # Half precisions compute the weights in float32, and round the output.
    scores = full(query) @ full(key).transpose(-2, -1) * scale
    mask = getattr(node, "_saved_attn_mask", getattr(node, "_saved_attn_bias", None))
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
        )
    if node._saved_is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    found: Tensor = scores.softmax(-1)
    return found


def _of_each_head(node: Any, shared: Tensor) -> Tensor:
    """The keys or values of each head of the queries; several heads may share theirs."""
    times = node._saved_query.shape[-3] // shared.shape[-3]
    shared = shared.detach()
    return shared if times == 1 else shared.repeat_interleave(times, -3)


def _is_fused(node: Node) -> bool:
    return node.name().startswith(_FUSED)


def _multiplies_values(node: Node, users: Mapping[Node, list[Node]]) -> bool:
    waiting = list(users[node])
    while waiting:
        user = waiting.pop()
        name = user.name().split("Backward")[0]
        if name == "Bmm":
            continue
        if name not in _UNCHANGING:
            return False
        waiting += users[user]
    return True


def _attention_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        name = node.name().split("Backward")[0]
        if name.startswith(_FUSED) or (name in _SOFTMAX and len(_shape(node)) >= 3):
            yield node


def _is_over_keys(node: Any) -> bool:
    """Whether a softmax has the axes of attention: the keys, of which there are several, last."""
    shape = _shape(node)
    # The number of an axis that is counted from the end is saved without its sign.
    axis = getattr(node, "_saved_dim", -1)
    is_last = axis in (-1, len(shape) - 1, 2**64 - 1)
    return is_last and shape[-1] > 1


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node._input_metadata[0].shape)


def _order(node: Any) -> int:
    return int(node._sequence_nr())
