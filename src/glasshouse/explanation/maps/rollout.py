"""Attention rollout: how much of each token reaches the tokens that the head reads.

Weights and gradients are ``(n, heads, queries, keys)``, of one attention layer after another; only
one layer's are needed at a time. All layers have as many queries as keys; only the last, which may
gather the answer with queries of its own, can have others. ``read`` ``(n, queries)`` sums to 1 over
the tokens that the head reads. Results are ``(n, tokens)`` and not negative.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def attention_rollout(weights: Iterable[Tensor], read: Tensor) -> Tensor:
    """The product of the layers' mean weights, each halved for the skip connection around it.

    Independent of the class (Abnar and Zuidema 2020).
    """
    flow = None
    for layer in weights:
        flow = _identity(layer) if flow is None else flow
        mean = layer.mean(1)
        is_square = mean.shape[1] == mean.shape[2]
        flow = ((mean + _identity(layer)) / 2 if is_square else mean) @ flow
    return torch.einsum("nq,nqk->nk", read, flow)


def relevance(weights: Tensor, gradient: Tensor) -> Tensor:
    """How a layer counts in `gradient_rollout`, ``(n, queries, keys)``.

    The mean over its heads of the positive part of weight times gradient.
    """
    return (weights * gradient).clamp(min=0).mean(1)


def gradient_rollout(relevances: Iterable[Tensor], read: Tensor) -> Tensor:
    """Relevance by rules 5 and 6 of Chefer, Gur and Wolf (ICCV 2021), without each token's own."""
    flow = own = None
    for layer in relevances:
        if flow is None or own is None:
            flow = own = _identity(layer)
        if layer.shape[1] == layer.shape[2]:
            flow = flow + layer @ flow
        else:
            flow, own = layer @ flow, torch.zeros_like(layer)
    assert flow is not None and own is not None
    return torch.einsum("nq,nqk->nk", read, flow - own)


def read_tokens(gradient: Tensor) -> Tensor:
    """Equal shares ``(n, queries)`` of the tokens whose last attention changes the score.

    gradient ``(n, heads, queries, any)``: of the last layer's weights or output.
    """
    is_read = (gradient != 0).any(-1).any(1).to(gradient.dtype)
    return is_read / is_read.sum(1, keepdim=True).clamp(min=1)


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)[None]
