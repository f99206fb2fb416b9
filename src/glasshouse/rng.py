"""Randomness as a pure function of (seed, purpose, epoch, image id).

There is no generator with a state: for the same seed, epoch and image, the numbers are the same in
any batch, in any worker and after any interruption. The mixing function is the finaliser of
SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
# One epoch for all keys, or one per key ``(n,)``.
Epochs = int | NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one named purpose, for example ``derive(seed, "dropout", epoch)``."""
    # A separator that no purpose contains: ("a", "bc") and ("ab", "c") must differ.
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    # 63 bits, since torch takes seeds as signed 64-bit integers.
    return int.from_bytes(digest, "little") >> 1


def keys_of(ids: NDArray[np.str_]) -> Keys:
    """A 64-bit key per image id ``(n,)``, the same on every machine."""
    digests = b"".join(
        hashlib.blake2b(i.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for i in ids.tolist()
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def uniforms(seed: int, purpose: str, epoch: Epochs, keys: Keys, count: int) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1), shape ``(n, count)``: one row per key."""
    bits = _bits(seed, purpose, epoch, keys, count)
    # 24 bits are what a float32 in [0, 1) can hold exactly.
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def permutation(seed: int, purpose: str, epoch: Epochs, keys: Keys) -> NDArray[np.int64]:
    """A random order of ``n`` images: their positions, sorted by a hash of their keys."""
    return np.argsort(_bits(seed, purpose, epoch, keys, 1)[:, 0], kind="stable")


def _bits(seed: int, purpose: str, epoch: Epochs, keys: Keys, count: int) -> NDArray[np.uint64]:
    start = _starts(seed, purpose, epoch)
    # Arithmetic modulo 2**64 is meant, and numpy would warn of it for scalars.
    with np.errstate(over="ignore"):
        rows = _mix(keys ^ start)[:, None]
        columns = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return _mix(rows + columns[None, :])


def _starts(seed: int, purpose: str, epoch: Epochs) -> np.uint64 | NDArray[np.uint64]:
    if isinstance(epoch, int):
        return np.uint64(derive(seed, purpose, epoch))
    different, place = np.unique(epoch, return_inverse=True)
    starts = np.array([derive(seed, purpose, int(each)) for each in different], dtype=np.uint64)
    return starts[place]


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
