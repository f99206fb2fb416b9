"""Random augmentation of batches, with separate parameters for each image.

The parameters are a pure function of (seed, epoch, image id), so an image looks the same in any
batch. If images are repeated within an epoch, the number of the repetition takes the place of the
epoch. All geometric changes are composed into one affine map per image, so that it is interpolated
only once.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from glasshouse.data.device_copy import on_device
from glasshouse.rng import Epochs, Keys, uniforms
from glasshouse.settings import AugmentSettings

_PADDING = {"nearest": "border", "reflect": "reflection", "constant": "zeros"}
_GREY = 127.5


def augment(
    images: Tensor, keys: Keys, settings: AugmentSettings, *, seed: int, epoch: Epochs
) -> Tensor:
    """Augment uint8 images ``(n, 3, h, w)``: float32 in 0..255, on the same device."""
    # Columns: 0 rotation, 1-2 shift, 3-4 zoom, 5 flip, 6-7 crop, 8-10 colour, 11 cutout, 12 pixel
    # dropout. All are drawn, so that switching one change on does not alter the others.
    draws = uniforms(seed, "augment", epoch, keys, 13)
    if settings.horizontal_flip == "alternating":
        draws[:, 5] = _alternating(seed, keys, epoch)
    moved = _move(images, draws, settings)
    coloured = _colour(moved.float(), draws, settings)
    cut = _cut_out(coloured, draws, settings)
    if settings.pixel_dropout == 0:
        return cut
    height, width = images.shape[-2:]
    # Apart from the other draws: there are as many as pixels.
    pixels = uniforms(seed, "pixel dropout", epoch, keys, height * width)
    return _drop_pixels(cut, draws, pixels.reshape(-1, height, width), settings)


def mix(
    images: Tensor,
    labels: Tensor,
    keys: Keys,
    settings: AugmentSettings,
    *,
    seed: int,
    epoch: Epochs,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Blend each image of a batch with its neighbour, by mixup or CutMix.

    Returns the images, the labels of the neighbours and the share ``(n,)`` that each image keeps
    of its own target; the last two are None where nothing is mixed. If both are enabled, each image
    gets one of them at random. Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix).
    """
    if settings.mixup == 0 and settings.cutmix == 0:
        return images, None, None
    # Local: SciPy takes a quarter of a second to import, and most recipes mix nothing.
    from scipy.special import betaincinv

    draws = uniforms(seed, "mix", epoch, keys, 5)
    is_cut = draws[:, 0] < _cutmix_chance(settings)
    # For a smaller alpha, all shares round to 0 or 1, and the inverse becomes NaN.
    alpha = np.where(is_cut, settings.cutmix, settings.mixup).clip(min=0.01)
    share = betaincinv(alpha, alpha, draws[:, 1].astype(np.float64)).astype(np.float32)
    # The order of an epoch is random, so the neighbour is a random partner.
    partners = images.roll(1, dims=0)
    boxes, areas = _boxes(draws[:, 2:4], np.sqrt(1 - share), images.shape[-2:])
    own = on_device(np.where(is_cut, 1 - areas, share), images.device)
    cut = on_device(boxes & is_cut[:, None, None], images.device)[:, None]
    blended = on_device(np.where(is_cut, np.float32(1), share), images.device)
    mixed = torch.lerp(partners, images, blended[:, None, None, None])
    return torch.where(cut, partners, mixed), labels.roll(1, dims=0), own


def _cutmix_chance(settings: AugmentSettings) -> float:
    return (settings.cutmix > 0) / ((settings.cutmix > 0) + (settings.mixup > 0))


def _move(images: Tensor, draws: NDArray[np.float32], settings: AugmentSettings) -> Tensor:
    if _needs_interpolation(settings):
        size = images.shape[-2:]
        maps = on_device(_affine(draws, settings, size), images.device)
        grid = _sampling_grid(maps, size)
        padding = _PADDING[settings.fill_mode]
        return functional.grid_sample(
            images.float(), grid, mode="bilinear", padding_mode=padding, align_corners=False
        )
    # Without interpolation, indexing is faster and exact.
    if settings.random_crop:
        return _shift_by_pixels(images, draws, settings)
    if settings.horizontal_flip:
        flips = on_device(_is_flipped(draws, settings), images.device)
        return torch.where(flips[:, None, None, None], images.flip(-1), images)
    return images


def _sampling_grid(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """The sampling points ``(n, h, w, 2)`` of affine maps ``(n, 2, 3)``, as functional.affine_grid.

    With points as complex numbers, the grid is the sum of a row and a column; the matrix product
    in affine_grid takes ten times as long.
    """
    height, width = size
    across, down, shift = torch.view_as_complex(maps.transpose(1, 2).contiguous()).unbind(1)
    columns = torch.arange(1 - width, width, 2, device=maps.device) / width
    rows = torch.arange(1 - height, height, 2, device=maps.device) / height
    row = across[:, None] * columns
    column = down[:, None] * rows + shift[:, None]
    return torch.view_as_real(row[:, None, :] + column[:, :, None])


def _needs_interpolation(settings: AugmentSettings) -> bool:
    return bool(
        settings.rotation_range
        or settings.width_shift_range
        or settings.height_shift_range
        or settings.zoom_range
    )


def _is_flipped(draws: NDArray[np.float32], settings: AugmentSettings) -> NDArray[np.bool_]:
    return (draws[:, 5] < 0.5) & bool(settings.horizontal_flip)


def _alternating(seed: int, keys: Keys, epoch: Epochs) -> NDArray[np.float32]:
    """Below 0.5 in every second epoch; a random draw decides in which (Jordan 2024)."""
    is_first = uniforms(seed, "flip", 0, keys, 1)[:, 0] < 0.5
    return np.where(is_first == (epoch % 2 == 0), np.float32(0.25), np.float32(0.75))


def _affine(
    draws: NDArray[np.float32], settings: AugmentSettings, size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Maps from output to input coordinates, ``(n, 2, 3)``, both from -1 to 1."""
    height, width = size
    symmetric = 2 * draws - 1
    angle = np.radians(settings.rotation_range) * symmetric[:, 0]
    shift_x = 2 * settings.width_shift_range * symmetric[:, 1]
    shift_y = 2 * settings.height_shift_range * symmetric[:, 2]
    pixels_x, pixels_y = _crop_shift(draws, settings)
    zoom_x = 1 + settings.zoom_range * symmetric[:, 3]
    zoom_y = 1 + settings.zoom_range * symmetric[:, 4]
    # Mirroring the output axis, so that the crop and the shift keep their direction.
    mirror = np.where(_is_flipped(draws, settings), -1.0, 1.0)
    matrix = np.empty((len(draws), 2, 3), dtype=np.float32)
    # Unless the image is square, a rotation of the pixels is skewed in these coordinates.
    matrix[:, 0, 0] = np.cos(angle) * zoom_x * mirror
    matrix[:, 0, 1] = -np.sin(angle) * zoom_y * (height / width)
    matrix[:, 0, 2] = shift_x + 2 * pixels_x / width
    matrix[:, 1, 0] = np.sin(angle) * zoom_x * mirror * (width / height)
    matrix[:, 1, 1] = np.cos(angle) * zoom_y
    matrix[:, 1, 2] = shift_y + 2 * pixels_y / height
    return matrix


def _crop_shift(
    draws: NDArray[np.float32], settings: AugmentSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shifts in whole pixels, horizontally and vertically, each from -p to p."""
    # An odd reach: a draw just below 1 never rounds up to it, even in float32.
    reach = 2 * settings.random_crop + 1
    steps = np.floor(draws[:, 6:8] * reach) - settings.random_crop
    return steps[:, 0].astype(np.int64), steps[:, 1].astype(np.int64)


def _shift_by_pixels(
    images: Tensor, draws: NDArray[np.float32], settings: AugmentSettings
) -> Tensor:
    """Flip and shift by whole pixels through indexing: exact, and uint8 stays uint8."""
    height, width = images.shape[-2:]
    pixels_x, pixels_y = _crop_shift(draws, settings)
    columns = np.arange(width)[None, :] + pixels_x[:, None]
    rows = np.arange(height)[None, :] + pixels_y[:, None]
    columns = np.where(_is_flipped(draws, settings)[:, None], width - 1 - columns, columns)
    inside_x, from_x = _indices(columns, width, settings.fill_mode)
    inside_y, from_y = _indices(rows, height, settings.fill_mode)
    device = images.device
    which = torch.arange(len(images), device=device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        which,
        on_device(from_y, device)[:, :, None],
        on_device(from_x, device)[:, None, :],
    ].permute(0, 3, 1, 2)
    if settings.fill_mode == "constant":
        inside = on_device(inside_y[:, :, None] & inside_x[:, None, :], device)
        moved = moved * inside[:, None]
    return moved


def _indices(
    positions: NDArray[np.int64], size: int, fill_mode: str
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    inside = (positions >= 0) & (positions < size)
    if fill_mode == "reflect":
        # The edge pixel is repeated, as grid_sample does with align_corners=False.
        wrapped = positions % (2 * size)
        return inside, np.where(wrapped < size, wrapped, 2 * size - 1 - wrapped)
    return inside, positions.clip(0, size - 1)


def _colour(images: Tensor, draws: NDArray[np.float32], settings: AugmentSettings) -> Tensor:
    """Brightness, contrast and saturation, with the definitions of torchvision."""
    ranges = (settings.brightness_range, settings.contrast_range, settings.saturation_range)
    if not any(ranges):
        return images
    factors = 1 + (2 * draws[:, 8:11] - 1) * np.asarray(ranges, dtype=np.float32)
    bright, contrast, saturation = (
        on_device(np.ascontiguousarray(factors[:, i]), images.device).view(-1, 1, 1, 1)
        for i in range(3)
    )
    images = (images * bright).clamp(0, 255)
    mean = _luminance(images).mean(dim=(1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * contrast).clamp(0, 255)
    grey = _luminance(images)
    return (grey + (images - grey) * saturation).clamp(0, 255)


def _luminance(images: Tensor) -> Tensor:
    return (images * _luminance_weights(images.device)).sum(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def _luminance_weights(device: torch.device) -> Tensor:
    # ITU-R BT.601, with the digits that torchvision uses.
    return torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1).to(device)


def _cut_out(images: Tensor, draws: NDArray[np.float32], settings: AugmentSettings) -> Tensor:
    """A grey square at a random position (DeVries and Taylor 2017)."""
    if settings.cutout == 0:
        return images
    # The lower bits of the same draw give the second coordinate.
    places = np.stack([draws[:, 11], (draws[:, 11] * 4096) % 1], axis=1)
    sides = np.full(len(draws), settings.cutout, dtype=np.float32)
    boxes, _ = _boxes(places, sides, images.shape[-2:])
    return images.masked_fill(on_device(boxes, images.device)[:, None], _GREY)


def _drop_pixels(
    images: Tensor,
    draws: NDArray[np.float32],
    pixels: NDArray[np.float32],
    settings: AugmentSettings,
) -> Tensor:
    """Single grey pixels, in half of the images: a share of them from nothing to the setting's.

    pixels: a draw for each ``(n, h, w)``.
    """
    share = settings.pixel_dropout * (2 * draws[:, 12] - 1)
    dropped = on_device(pixels < share[:, None, None], images.device)
    return images.masked_fill(dropped[:, None], _GREY)


def _boxes(
    places: NDArray[np.float32], sides: NDArray[np.float32], size: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Boxes with centres anywhere, clipped at the border, and the share of the image they cover."""
    height, width = size
    inside_y = _spans(places[:, 0], sides, height)
    inside_x = _spans(places[:, 1], sides, width)
    boxes = inside_y[:, :, None] & inside_x[:, None, :]
    return boxes, boxes.mean(axis=(1, 2), dtype=np.float32)


def _spans(
    centres: NDArray[np.float32], sides: NDArray[np.float32], size: int
) -> NDArray[np.bool_]:
    length = np.rint(sides * size)
    start = np.rint(centres * size - length / 2)
    pixels = np.arange(size)[None, :]
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
