"""The limits of a service: what it accepts and how long a request may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a service; durations in seconds, sizes in bytes.

    passes: forward passes that run concurrently. threads: of each of them, and twice as many of one
    that runs alone, where that is faster; None: as many as torch has. max_batch, max_wait: images
    per forward pass, and how long the first may wait for others that are still being decoded.
    max_queue: images in flight, from arrival to response; more are rejected. deadline: from a
    complete request to its response. upload: to receive a body. max_body, max_held: of one body,
    and of all bodies together. max_pixels: per image. max_images: per request. explain_*: the same
    for explanations, which take far longer.
    """

    passes: int = 1
    threads: int | None = None
    max_batch: int = 16
    max_wait: float = 0.002
    max_queue: int = 256
    deadline: float = 10.0
    upload: float = 30.0
    max_body: int = 32 << 20
    max_held: int = 512 << 20
    max_pixels: int = 50_000_000
    max_images: int = 64
    explain_queue: int = 8
    explain_deadline: float = 60.0
    explain_images: int = 4
