"""The nearest rows of a matrix of features: exact search, in blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Rows that are in float32 at once: with 2,048 features, 128 MiB.
_BLOCK = 16_384
# Products of one query in half precision take a fifth of the time; of many at once, more.
_FEW = 4
# Largest error of a product of unit vectors in half precision: the query and the product are
# rounded, by 2**-11 each, and what is summed in between by far less.
_ERROR = 3 * 2**-11
# Rounding to half precision leaves no row of unit length longer.
_LONGEST = 1.01


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


def squared_lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Of rows ``(m, d)``, which may be in half precision and memory-mapped."""
    found = [
        np.square(rows[start : start + _BLOCK], dtype=np.float32).sum(axis=1)
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def nearest_rows(
    known: NDArray[np.floating[Any]],
    asked: NDArray[np.floating[Any]],
    count: int,
    squares: NDArray[np.float32] | None = None,
) -> Neighbours:
    """The rows of known ``(m, d)`` nearest to each of asked ``(n, d)``, at most count of them.

    known may be in half precision and memory-mapped: it is read once, a block at a time. squares:
    the squared lengths of known; with them, a few queries of unit length among rows of unit length
    in half precision take a fifth of the time. Rows at equal distances come in any order.
    """
    count = min(count, len(known))
    queries = torch.from_numpy(np.asarray(asked, dtype=np.float32))
    if squares is not None and _can_sift(known, squares, queries):
        sifted = [_sifted(known, squares, query, count) for query in queries]
        return Neighbours(np.stack([r for r, _ in sifted]), np.stack([d for _, d in sifted]))
    own = (queries * queries).sum(dim=1, keepdim=True)
    best = torch.empty((len(queries), 0))
    places = torch.empty((len(queries), 0), dtype=torch.int64)
    for start in range(0, len(known), _BLOCK):
        block = torch.from_numpy(np.array(known[start : start + _BLOCK])).float()
        found = own + (block * block).sum(dim=1) - 2 * (queries @ block.T)
        near, where = found.topk(min(count, len(block)), dim=1, largest=False)
        best = torch.cat([best, near], dim=1)
        places = torch.cat([places, where + start], dim=1)
        order = best.argsort(dim=1)[:, :count]
        best, places = best.gather(1, order), places.gather(1, order)
    return Neighbours(places.numpy(), best.clamp_min(0).sqrt().numpy())


def _can_sift(
    known: NDArray[np.floating[Any]], squares: NDArray[np.float32], queries: torch.Tensor
) -> bool:
    return (
        known.dtype == np.float16
        and known.flags.writeable  # torch takes no others without a copy
        and 0 < len(queries) <= _FEW
        and len(known) > 0
        and float(squares.max()) <= _LONGEST**2
        and float(torch.linalg.vector_norm(queries, dim=1).max()) <= _LONGEST
    )


def _sifted(
    known: NDArray[np.floating[Any]],
    squares: NDArray[np.float32],
    query: torch.Tensor,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and distances of one query: all that rounding could put among the nearest, exactly."""
    rows = torch.from_numpy(known)
    # The squared distance but for the query's own square, too large or too small by 2 errors.
    rough = torch.from_numpy(squares) - 2 * torch.mv(rows, query.half()).float()
    furthest = rough.topk(count, largest=False).values[-1]
    places = (rough <= furthest + 4 * _ERROR).nonzero()[:, 0]
    chosen = rows[places].float()
    distances, order = torch.linalg.vector_norm(chosen - query, dim=1).topk(count, largest=False)
    return places[order].numpy(), distances.numpy()
