"""Attention rollout: how much of each token reaches the tokens that the head reads.

``weights`` and ``gradients`` hold one tensor ``(n, heads, queries, keys)`` per attention layer, in
order. All layers have as many queries as keys; only the last, which may gather the answer with
queries of its own, can have others. ``read`` ``(n, queries)`` sums to 1 over the tokens that the
head reads. Results are ``(n, tokens)`` and not negative.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def attention_rollout(weights: Sequence[Tensor], read: Tensor) -> Tensor:
    """The product of the layers' mean weights, each halved for the skip connection around it.

    Independent of the class (Abnar and Zuidema 2020).
    """
    flow = _identity(weights[0])
    for layer in weights:
        mean = layer.mean(1)
        is_square = mean.shape[1] == mean.shape[2]
        flow = ((mean + _identity(layer)) / 2 if is_square else mean) @ flow
    return torch.einsum("nq,nqk->nk", read, flow)


def gradient_rollout(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], read: Tensor
) -> Tensor:
    """Relevance by rules 5 and 6 of Chefer, Gur and Wolf (ICCV 2021), without each token's own.

    A layer counts with the mean over its heads of the positive part of weight times gradient.
    """
    flow = own = _identity(weights[0])
    for layer, gradient in zip(weights, gradients, strict=True):
        relevance = (layer * gradient).clamp(min=0).mean(1)
        if relevance.shape[1] == relevance.shape[2]:
            flow = flow + relevance @ flow
        else:
            flow, own = relevance @ flow, torch.zeros_like(relevance)
    return torch.einsum("nq,nqk->nk", read, flow - own)


def read_tokens(gradient: Tensor) -> Tensor:
    """Equal shares ``(n, queries)`` of the tokens whose last attention changes the score.

    gradient ``(n, heads, queries, any)``: of the last layer's weights or output.
    """
    is_read = (gradient != 0).any(-1).any(1).to(gradient.dtype)
    return is_read / is_read.sum(1, keepdim=True).clamp(min=1)


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)[None]
