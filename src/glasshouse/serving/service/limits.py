"""What one service accepts, and how long anybody waits for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a service; durations in seconds, sizes in bytes.

    passes: forward passes at one time. max_batch, max_wait: images in one of them, and how long
    the first may wait for others that are still being decoded. max_queue: images between arrival
    and answer; one more is refused. deadline: from a whole request to its answer. upload: for the
    body of a request. max_body, max_held: bytes of one body, and of all bodies at one time.
    max_pixels: of an image. max_images: in one request. explain_*: the same for explanations,
    which take far longer.
    """

    passes: int = 1
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
