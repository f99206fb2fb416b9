"""The nearest rows of a matrix of features: exact search, in blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Rows that are in float32 at once: with 2,048 features, 128 MiB.
_BLOCK = 16_384


@dataclass(frozen=True)
class Neighbours:
    """For each of n queries the k nearest rows, nearest first.

    rows ``(n, k)``: their positions; distances ``(n, k)``: Euclidean, between unit vectors in 0..2.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


def unit_rows(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Features ``(n, d)`` at unit length, as nearest neighbours compare them; zeros stay zeros."""
    wide = np.asarray(features, dtype=np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float32] = wide / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def nearest_rows(
    known: NDArray[np.floating[Any]], asked: NDArray[np.floating[Any]], count: int
) -> Neighbours:
    """The rows of known ``(m, d)`` nearest to each of asked ``(n, d)``, at most count of them.

    known may be in half precision and memory-mapped: it is read once, a block at a time. Rows at
    equal distances come in any order.
    """
    count = min(count, len(known))
    queries = torch.from_numpy(np.asarray(asked, dtype=np.float32))
    squares = (queries * queries).sum(dim=1, keepdim=True)
    best = torch.empty((len(queries), 0))
    places = torch.empty((len(queries), 0), dtype=torch.int64)
    for start in range(0, len(known), _BLOCK):
        block = torch.from_numpy(np.array(known[start : start + _BLOCK])).float()
        found = squares + (block * block).sum(dim=1) - 2 * (queries @ block.T)
        near, where = found.topk(min(count, len(block)), dim=1, largest=False)
        best = torch.cat([best, near], dim=1)
        places = torch.cat([places, where + start], dim=1)
        order = best.argsort(dim=1)[:, :count]
        best, places = best.gather(1, order), places.gather(1, order)
    return Neighbours(places.numpy(), best.clamp_min(0).sqrt().numpy())
