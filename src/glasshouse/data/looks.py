"""How images look: digests that tell equal ones, and small grey images that tell near ones.

Two images are near copies when a 64-bit hash of their coarse structure differs in few bits and
the edges of their thumbnails agree. Both are blind to a change of brightness, contrast, colour or
compression; the edges tell apart what only shares a sky or a white background.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.cache import Images, blocks
from glasshouse.data.images import ImageSet

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

# Of 64. Chosen by looking at pairs of CIFAR-10: within these two, one pair in about thirty of
# the doubtful ones shows two things; a bit more, or edges below 0.7, brings ships on any sea.
MOST_BITS = 12
LEAST_LIKENESS = 0.75
# Frames of a film are all near each other; the nearest few hold them together.
_MOST_EACH = 20
_SIDE = 16
_FREQUENCIES = np.arange(1, 9)
_GREY = np.array((0.299, 0.587, 0.114), dtype=np.float32)


@dataclass(frozen=True)
class Looks:
    """What one pass over n images keeps.

    digests: of the decoded pixels. is_constant ``(n,)``: of a single colour. thumbnails: grey,
    float32 ``(n, 16, 16)``; of no images when nobody looked closely.
    """

    digests: tuple[bytes, ...]
    is_constant: NDArray[np.bool_]
    thumbnails: Floats


def look(sets: Sequence[ImageSet], *, closely: bool = True) -> Looks:
    """Look at every image of these sets, one set after the other.

    closely: keep thumbnails too, which near copies are told by.
    """
    digests: list[bytes] = []
    constant = [np.empty(0, dtype=bool)]
    thumbnails = [np.empty((0, _SIDE, _SIDE), dtype=np.float32)]
    for images in sets:
        for block in blocks(images.pixels):
            digests += [hashlib.blake2b(p.data, digest_size=16).digest() for p in block]
            flat = block.reshape(len(block), 3, -1)
            constant.append((flat == flat[:, :, :1]).all(axis=(1, 2)))
            if closely:
                thumbnails.append(_thumbnails(block))
    return Looks(tuple(digests), np.concatenate(constant), np.concatenate(thumbnails))


def equal_groups(digests: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Positions of equal images, two or more in a group."""
    places: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        places.setdefault(digest, []).append(position)
    return [tuple(group) for group in places.values() if len(group) > 1]


def near_pairs(looks: Looks) -> list[tuple[int, int]]:
    """Positions of images that are nearly, but not quite, the same; the most alike first.

    Of equal images only the first is compared. An image is paired with the nearest 20 of those
    that follow.
    """
    # The first place of each different image: a later one overwrites in reversed order.
    distinct = {digest: place for place, digest in reversed(list(enumerate(looks.digests)))}
    firsts = np.array(sorted(distinct.values()), dtype=np.int64)
    thumbnails = looks.thumbnails[firsts]
    found: list[tuple[float, int, int]] = []
    for first, others in _close(image_hashes(thumbnails)):
        likeness = edge_likeness(thumbnails[others], thumbnails[first])
        found += [
            (-float(value), int(firsts[first]), int(firsts[other]))
            for value, other in zip(likeness, others, strict=True)
            if value >= LEAST_LIKENESS
        ]
    return [(first, second) for _, first, second in sorted(found)]


def image_hashes(thumbnails: Floats) -> Hashes:
    """A 64-bit hash each: the signs of the 8x8 lowest frequencies that are no mean of a line."""
    positions = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    waves = np.cos(_FREQUENCIES[:, None] * positions).astype(np.float32)
    # As an einsum this would not reach BLAS; matmul does.
    signs = (waves @ thumbnails @ waves.T).reshape(-1, 64) > 0
    packed: Hashes = np.packbits(signs, axis=1).view(np.uint64).ravel()
    return packed


def edge_likeness(thumbnails: Floats, other: Floats) -> Floats:
    """How well the edges of each of ``(n, 16, 16)`` agree with those of one: -1..1.

    It is the correlation of the differences between neighbours; 0 for an image without edges.
    """
    ours, theirs = _edges(thumbnails), _edges(other[None])[0]
    sizes = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs)
    result: Floats = ours @ theirs / np.maximum(sizes, 1e-3)
    return result


def _close(hashes: Hashes) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each image, those behind it within MOST_BITS.

    Every pair is looked at: 60,000 images take about a second, and nothing is missed.
    """
    for first in range(len(hashes) - 1):
        bits = np.bitwise_count(hashes[first + 1 :] ^ hashes[first])
        close = np.flatnonzero(bits <= MOST_BITS)
        if len(close) > _MOST_EACH:
            close = close[np.argsort(bits[close], kind="stable")[:_MOST_EACH]]
        if len(close):
            yield first, close + first + 1


def _thumbnails(images: Images) -> Floats:
    rows, columns = (_averaging(side) for side in images.shape[2:])
    grey = np.einsum("nchw,c->nhw", images, _GREY)
    small: Floats = rows @ grey @ columns.T
    return small


def _averaging(side: int) -> Floats:
    """A matrix ``(16, side)`` that averages a line of pixels over sixteen equal stretches."""
    bounds = np.arange(_SIDE + 1) * side / _SIDE
    starts, ends = bounds[:-1, None], bounds[1:, None]
    pixels = np.arange(side)
    overlap = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    shares: Floats = (np.maximum(overlap, 0) * _SIDE / side).astype(np.float32)
    return shares


def _edges(thumbnails: Floats) -> Floats:
    across = np.diff(thumbnails, axis=2).reshape(len(thumbnails), -1)
    down = np.diff(thumbnails, axis=1).reshape(len(thumbnails), -1)
    return np.concatenate([across, down], axis=1)
