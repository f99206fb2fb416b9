"""Perceptual hashes and thumbnails, by which near-duplicates are found.

Two images are near-duplicates when a 64-bit hash of their coarse structure differs in few bits and
the edges of their thumbnails agree. Both ignore a change of brightness, contrast, colour or
compression; the edges separate images that share no more than a sky or a white background.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import Images, blocks

# Grey, float32 ``(n, 16, 16)``.
Thumbnails = NDArray[np.float32]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

# Of 64. Chosen by inspecting pairs in CIFAR-10: within these two limits, about one in thirty of
# the doubtful pairs shows two different objects; with one more bit, or a likeness below 0.7, ships
# on any sea are paired.
MOST_BITS = 12
LEAST_LIKENESS = 0.75
# Frames of a film are all close to each other; a few neighbours each still connect all of them.
_MOST_EACH = 20
_SIDE = 16
_FREQUENCIES = np.arange(1, 9)
# The luma weights of ITU-R BT.601, as in JPEG.
_GREY = np.array((0.299, 0.587, 0.114), dtype=np.float32)


def thumbnails_of(sets: Sequence[ImageSet]) -> Thumbnails:
    """Grey thumbnails of every image of these sets, one set after the other, in a pass over each.

    They are no part of a survey: 1 KiB per image, which training never needs.
    """
    empty = np.empty((0, _SIDE, _SIDE), dtype=np.float32)
    parts = (_thumbnails(block) for images in sets for block in blocks(images.pixels))
    return np.concatenate([empty, *parts])


def near_pairs(digests: Sequence[bytes], thumbnails: Thumbnails) -> list[tuple[int, int]]:
    """Positions of images that are nearly, but not exactly, the same; the most alike first.

    Of equal images, which have equal digests, only the first is compared. An image is paired with
    at most the nearest 20 of those that follow it.
    """
    # The first position of each distinct image: in reversed order, earlier ones overwrite later.
    distinct = {digest: place for place, digest in reversed(list(enumerate(digests)))}
    firsts = np.array(sorted(distinct.values()), dtype=np.int64)
    thumbnails = thumbnails[firsts]
    found: list[tuple[float, int, int]] = []
    for first, others in _close(image_hashes(thumbnails)):
        likeness = edge_likeness(thumbnails[others], thumbnails[first])
        found += [
            (-float(value), int(firsts[first]), int(firsts[other]))
            for value, other in zip(likeness, others, strict=True)
            if value >= LEAST_LIKENESS
        ]
    return [(first, second) for _, first, second in sorted(found)]


def image_hashes(thumbnails: Thumbnails) -> Hashes:
    """A 64-bit perceptual hash per thumbnail: the signs of its 8x8 lowest cosine frequencies.

    Frequency zero is left out in both directions, so that brightness plays no part.
    """
    positions = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    waves = np.cos(_FREQUENCIES[:, None] * positions).astype(np.float32)
    # matmul is passed on to BLAS; an einsum of the same product would not be.
    signs = (waves @ thumbnails @ waves.T).reshape(-1, 64) > 0
    packed: Hashes = np.packbits(signs, axis=1).view(np.uint64).ravel()
    return packed


def edge_likeness(thumbnails: Thumbnails, other: Floats) -> Floats:
    """How well the edges of each thumbnail agree with those of one ``(16, 16)``: -1..1.

    It is the cosine between the differences of neighbouring pixels; 0 for an image without edges.
    """
    ours, theirs = _edges(thumbnails), _edges(other[None])[0]
    sizes = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs)
    result: Floats = ours @ theirs / np.maximum(sizes, 1e-3)
    return result


def _close(hashes: Hashes) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each image, the later ones within MOST_BITS.

    Every pair is compared, so that nothing is missed: about a second for 60,000 images.
    """
    for first in range(len(hashes) - 1):
        bits = np.bitwise_count(hashes[first + 1 :] ^ hashes[first])
        close = np.flatnonzero(bits <= MOST_BITS)
        if len(close) > _MOST_EACH:
            close = close[np.argsort(bits[close], kind="stable")[:_MOST_EACH]]
        if len(close):
            yield first, close + first + 1


def _thumbnails(images: Images) -> Thumbnails:
    rows, columns = (_averaging(side) for side in images.shape[2:])
    grey = np.einsum("nchw,c->nhw", images, _GREY)
    small: Thumbnails = rows @ grey @ columns.T
    return small


def _averaging(side: int) -> Floats:
    """A matrix ``(16, side)`` that averages a line of pixels over sixteen equal segments."""
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
