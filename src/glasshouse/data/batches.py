"""The order of an epoch, and its batches as tensors."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.data.augment import augment, mix
from glasshouse.data.device_copy import on_device, pinned, read_ahead, room_on, to_device
from glasshouse.data.images import ImageSet
from glasshouse.data.pixel_blocks import Positions, blocks, gather
from glasshouse.data.sampling import Draws, draw_epoch
from glasshouse.data.targets import Targets
from glasshouse.errors import UsageError
from glasshouse.rng import Keys, keys_of
from glasshouse.settings import AugmentSettings, Sampling

# Augmenting several batches at once spreads the overhead of its many small operations.
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Batch:
    """Float images in 0..255 ``(n, 3, h, w)`` on the device, and what the loss needs.

    labels: positions ``(n,)``, or bool ``(n, k)`` where images may have several. partner_labels of
    the same form and own_share ``(n,)`` are set if images were mixed. shards: the parts of a batch
    that was cut, each a batch of its own; the fields of the whole then hold no images, but its
    positions. number, share: which shard this is, and its share of the batch's images.
    """

    step: int
    images: Tensor
    labels: Tensor
    positions: NDArray[np.int64]
    partner_labels: Tensor | None = None
    own_share: Tensor | None = None
    shards: "tuple[Batch, ...]" = ()
    number: int = 0
    share: float = 1.0


@dataclass(frozen=True)
class Cut:
    """Into how many shards each batch is cut, and which of them are made here."""

    count: int = 1
    own: range = range(1)

    def rows(self, start: int, stop: int, shard: int) -> tuple[int, int]:
        """Where a shard of the images start to stop begins and ends: parts as equal as can be."""
        size = stop - start
        return start + size * shard // self.count, start + size * (shard + 1) // self.count


WHOLE = Cut()


Read = Callable[[Iterable[Positions]], Iterator[Tensor]]


@dataclass(frozen=True)
class TrainingImages:
    """A training set prepared for a device: images by position, labels and random keys.

    read: uint8 images for each array of positions, in order. labels: the targets on the device.
    sampling: which images an epoch uses.
    """

    read: Read
    targets: Targets
    labels: Tensor
    keys: Keys
    image_bytes: int
    sampling: Sampling = "shuffle"
    cut: Cut = WHOLE

    def __len__(self) -> int:
        return len(self.labels)


def prepare_images(
    images: ImageSet,
    device: torch.device,
    sampling: Sampling = "shuffle",
    cut: Cut = WHOLE,
) -> TrainingImages:
    """Keep a set as uint8 on the device if it fits; else read it a few images ahead of their use.

    Raises UsageError for a set that leaves a shard with fewer than two images.
    """
    if cut.count > 1 and len(images) < 2 * cut.count:
        raise UsageError(
            f"train.shards = {cut.count} needs at least two training images per shard, "
            f"{2 * cut.count} in all, but there are {len(images)}: lower train.shards"
        )
    pixels = images.pixels
    # Handing a memory map to torch would make all of it resident in the end.
    is_mapped = isinstance(pixels, np.memmap)
    fits = not is_mapped if device.type == "cpu" else pixels.nbytes <= room_on(device)
    read = _reads_of(_whole(pixels, device)) if fits else _reads_ahead(pixels, device)
    targets = images.targets
    labels, keys = on_device(targets, device), keys_of(images.ids)
    return TrainingImages(read, targets, labels, keys, pixels[0].nbytes, sampling, cut)


def step_count(image_count: int, batch_size: int, shards: int = 1) -> int:
    """Batches per epoch; a last batch of a single image per shard is added to the one before."""
    full, rest = divmod(image_count, batch_size)
    # BatchNorm cannot compute statistics over a single value per channel, and refuses to.
    return max(1, full + (rest >= 2 * shards))


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
    draws = draw_epoch(data.keys, data.targets, data.sampling, seed=seed, epoch=epoch)
    steps = step_count(len(data), batch_size, data.cut.count)
    bounds = [*(step * batch_size for step in range(steps)), len(data)]
    whole = list(itertools.pairwise(bounds))
    make = _Maker(data, settings, draws, seed)
    if data.cut.count == 1:
        yield from make.batches(whole, first_step)
        return
    # Every shard is augmented by itself, in the same shapes wherever it is made: same bytes.
    parts = [
        make.batches([data.cut.rows(*rows, shard) for rows in whole], first_step)
        for shard in data.cut.own
    ]
    for shards in zip(*parts, strict=True):
        yield _joined(shards, whole, draws, data.cut)


@dataclass(frozen=True)
class _Maker:
    """Makes the batches of an epoch, or of one shard of each."""

    data: TrainingImages
    settings: AugmentSettings
    draws: Draws
    seed: int

    def batches(self, bounds: list[tuple[int, int]], first_step: int) -> Iterator[Batch]:
        """The batch of each step from first_step on. bounds: its first and last place in order."""
        largest = bounds[0][1] - bounds[0][0]
        per_chunk = max(1, _CHUNK_BYTES // (self.data.image_bytes * largest))
        # Chunks begin at fixed steps: a resumed epoch then augments the same images together, and
        # gets the same bytes.
        starts = range(first_step - first_step % per_chunk, len(bounds), per_chunk)
        chunks = [range(start, min(start + per_chunk, len(bounds))) for start in starts]
        wanted = (self.draws.positions[_places(bounds, steps)] for steps in chunks)
        for steps, images in zip(chunks, self.data.read(wanted), strict=True):
            yield from self._chunk(images, steps, bounds, first_step)

    def _chunk(
        self, rows: Tensor, steps: range, bounds: list[tuple[int, int]], first_step: int
    ) -> Iterator[Batch]:
        data, places = self.data, _places(bounds, steps)
        positions, showings = self.draws.positions[places], self.draws.showings[places]
        keys = data.keys[positions]
        changed = augment(rows, keys, self.settings, seed=self.seed, epoch=showings)
        answers = data.labels[on_device(positions, data.labels.device)]
        begin = 0
        for step in steps:
            inside = slice(begin, begin + bounds[step][1] - bounds[step][0])
            begin = inside.stop
            if step < first_step:
                continue
            images, partner_labels, own_share = mix(
                changed[inside],
                answers[inside],
                keys[inside],
                self.settings,
                seed=self.seed,
                epoch=showings[inside],
            )
            yield Batch(step, images, answers[inside], positions[inside], partner_labels, own_share)


def _joined(
    shards: tuple[Batch, ...], whole: list[tuple[int, int]], draws: Draws, cut: Cut
) -> Batch:
    first = shards[0]
    start, stop = whole[first.step]
    numbered = tuple(
        replace(shard, number=number, share=len(shard.positions) / (stop - start))
        for number, shard in zip(cut.own, shards, strict=True)
    )
    positions = draws.positions[start:stop]
    return Batch(first.step, first.images[:0], first.labels[:0], positions, shards=numbered)


def _places(bounds: list[tuple[int, int]], steps: range) -> Positions:
    """The places in the order of the epoch that some steps use."""
    return np.concatenate([np.arange(*bounds[step]) for step in steps])


def _whole(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """All images on a device; those of a file are copied a few at a time."""
    if device.type == "cpu":
        return torch.from_numpy(images)
    whole = torch.empty(images.shape, dtype=torch.uint8, device=device)
    start = 0
    for block in blocks(images):
        whole[start : start + len(block)] = torch.from_numpy(block)
        start += len(block)
    return whole


def _reads_of(whole: Tensor) -> Read:
    # index_select copies whole images, six times as fast as indexing.
    return lambda wanted: (whole.index_select(0, on_device(p, whole.device)) for p in wanted)


def _reads_ahead(images: NDArray[np.uint8], device: torch.device) -> Read:
    def read(wanted: Iterable[Positions]) -> Iterator[Tensor]:
        for rows in read_ahead(lambda positions: pinned(gather(images, positions), device), wanted):
            yield to_device(rows, device)

    return read
