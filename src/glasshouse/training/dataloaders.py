"""The batches of a torch DataLoader, in the units of the training loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from glasshouse.errors import DataError, UsageError, type_words
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.training.own_parts import BatchSource, require_image_shape

_IMAGE_NAMES = ("image", "images", "img", "pixel_values")
_LABEL_NAMES = ("label", "labels", "target", "targets")
# Interpolation and rounding go a little beyond the range.
_TOLERANCE = 2.0


def from_dataloader(loader: Any, *, normalized: Preprocessing | None = None) -> BatchSource:
    """The batches of a DataLoader, for ``train_classifier(..., batches=...)``.

    loader: yields (images, labels) or dicts, with images ``(n, 3, h, w)``, or ``(n, 1, h, w)`` in
    grey, that are uint8, or floats in 0..1 as ToTensor makes them. normalized: the mean and std
    that its transforms applied, if they did; they are undone, as the loop applies its own. Order
    and augmentation are the loader's, so a training of its batches does not repeat exactly after it
    was interrupted.

    Raises UsageError for what is no loader, DataError for images in another range.
    """
    if not hasattr(loader, "__iter__") or isinstance(loader, Iterator):
        raise UsageError(
            "from_dataloader: expected a DataLoader, or what can be iterated over once per epoch; "
            f"received {type_words(loader)}"
        )
    return lambda epoch: _Loaded(loader, normalized, epoch)


@dataclass(frozen=True)
class _Loaded:
    """One epoch of a loader; it has a length where the loader has one."""

    loader: Any
    normalized: Preprocessing | None
    epoch: int

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for name in ("sampler", "dataset"):
            # Distributed samplers and streamed datasets shuffle by epoch.
            set_epoch = getattr(getattr(self.loader, name, None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self.epoch)
        for number, batch in enumerate(self.loader, 1):
            images, labels = _pair(batch)
            values = torch.as_tensor(images)
            if values.ndim == 4 and values.shape[1] == 1:
                values = values.expand(-1, 3, -1, -1)
            where = f"the loader's batch {number}"
            require_image_shape(values, where)
            yield _in_bytes(values, self.normalized, where), labels

    # Asked for by the loop; a loader of streamed data raises TypeError, as it should.
    def __len__(self) -> int:
        return len(self.loader)


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        found = [
            next((batch[name] for name in names if name in batch), None)
            for names in (_IMAGE_NAMES, _LABEL_NAMES)
        ]
        if any(each is None for each in found):
            raise UsageError(
                f"the loader's batches have {', '.join(map(str, batch))}: expected an image and a "
                "label; return a pair (images, labels) from its collate_fn"
            )
        return found[0], found[1]
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    received = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
    raise UsageError(f"the loader: expected batches (images, labels), received {received}")


@lru_cache(maxsize=8)
def _per_channel(normalized: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1).to(device) for each in (normalized.mean, normalized.std)
    )
    return mean, std


def _in_bytes(images: Tensor, normalized: Preprocessing | None, where: str) -> Tensor:
    """Images as values of 0 to 255."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(f"{where}: expected uint8 or float images, received {images.dtype}")
    if normalized is not None:
        mean, std = _per_channel(normalized, images.device)
        images = images.float() * std + mean
    scaled = images.float() * 255
    low, high = float(scaled.min()), float(scaled.max())
    if low >= -_TOLERANCE and high <= 255 + _TOLERANCE:
        return scaled.clamp(0, 255)
    undone = "after undoing mean and std of `normalized`, " if normalized is not None else ""
    raise DataError(
        f"{where}: {undone}expected floats in 0..1, received {low / 255:.3g} to"
        f" {high / 255:.3g}. Pass the mean and std of its Normalize with "
        "from_dataloader(loader, normalized=Preprocessing(height, width, mean=..., std=...)), or "
        "return uint8"
    )
