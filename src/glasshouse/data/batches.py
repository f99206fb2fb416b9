"""The order of an epoch, and its batches as tensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.data.augment import augment, mix
from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import gather
from glasshouse.data.sampling import draw_epoch
from glasshouse.rng import Keys, keys_of
from glasshouse.settings import AugmentSettings, Sampling

# Augmenting several batches at once spreads the overhead of its many small operations.
_CHUNK_BYTES = 2 << 20
# A larger training set stays in main memory, to leave room for the network on the device.
_DEVICE_BYTES = 4 << 30


@dataclass(frozen=True)
class Batch:
    """Float images in 0..255 ``(n, 3, h, w)`` on the device, and what the loss needs.

    labels: positions ``(n,)``, or bool ``(n, k)`` where images may have several. partner_labels of
    the same form and own_share ``(n,)`` are set if images were mixed.
    """

    step: int
    images: Tensor
    labels: Tensor
    positions: NDArray[np.int64]
    partner_labels: Tensor | None = None
    own_share: Tensor | None = None


@dataclass(frozen=True)
class TrainingImages:
    """A training set prepared for a device: images by position, labels and random keys.

    sampling: which images an epoch uses.
    """

    rows: Callable[[NDArray[np.int64]], Tensor]
    labels: Tensor
    keys: Keys
    image_bytes: int
    sampling: Sampling = "shuffle"

    def __len__(self) -> int:
        return len(self.labels)


def prepare_images(
    images: ImageSet, device: torch.device, sampling: Sampling = "shuffle"
) -> TrainingImages:
    """Keep a set as uint8 in memory, or on the device if it fits; read a memory map by rows."""
    labels = torch.from_numpy(images.targets).to(device)
    # Handing a memory map to torch would make all of it resident in the end.
    rows = _memory_rows if not isinstance(images.pixels, np.memmap) else _mapped_rows
    bytes_each = images.pixels[0].nbytes
    keys = keys_of(images.ids)
    return TrainingImages(rows(images.pixels, device), labels, keys, bytes_each, sampling)


def step_count(image_count: int, batch_size: int) -> int:
    """Batches per epoch; a last batch of a single image is added to the one before."""
    full, rest = divmod(image_count, batch_size)
    # BatchNorm cannot compute statistics over a single value per channel, and refuses to.
    return max(1, full + (rest > 1))


def batches(
    data: TrainingImages,
    settings: AugmentSettings,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of one epoch from first_step on; they do not depend on earlier steps."""
    own_labels = data.labels.cpu().numpy()
    draws = draw_epoch(data.keys, own_labels, data.sampling, seed=seed, epoch=epoch)
    order, showings = draws.positions, draws.showings
    steps = step_count(len(data), batch_size)
    per_chunk = max(1, _CHUNK_BYTES // (data.image_bytes * batch_size))
    # Chunks begin at fixed steps: a resumed epoch then augments the same images together, and gets
    # the same bytes.
    for chunk_start in range(first_step - first_step % per_chunk, steps, per_chunk):
        chunk_steps = range(chunk_start, min(chunk_start + per_chunk, steps))
        bounds = [step * batch_size for step in chunk_steps]
        bounds.append(len(data) if chunk_steps[-1] == steps - 1 else bounds[-1] + batch_size)
        chunk = slice(bounds[0], bounds[-1])
        positions = order[chunk]
        changed = augment(
            data.rows(positions), data.keys[positions], settings, seed=seed, epoch=showings[chunk]
        )
        answers = data.labels[torch.from_numpy(positions).to(data.labels.device)]
        for step, start, stop in zip(chunk_steps, bounds, bounds[1:], strict=False):
            if step < first_step:
                continue
            chosen = order[start:stop]
            inside = slice(start - bounds[0], stop - bounds[0])
            labels = answers[inside]
            images, partner_labels, own_share = mix(
                changed[inside],
                labels,
                data.keys[chosen],
                settings,
                seed=seed,
                epoch=showings[start:stop],
            )
            yield Batch(step, images, labels, chosen, partner_labels, own_share)


def _memory_rows(
    images: NDArray[np.uint8], device: torch.device
) -> Callable[[NDArray[np.int64]], Tensor]:
    fits = images.nbytes <= _DEVICE_BYTES or device.type == "cpu"
    whole = torch.from_numpy(images).to(device if fits else "cpu")
    # index_select copies whole images, six times as fast as indexing.
    return lambda positions: whole.index_select(0, torch.from_numpy(positions).to(whole.device)).to(
        device
    )


def _mapped_rows(
    images: NDArray[np.uint8], device: torch.device
) -> Callable[[NDArray[np.int64]], Tensor]:
    return lambda positions: torch.from_numpy(gather(images, positions)).to(device)
