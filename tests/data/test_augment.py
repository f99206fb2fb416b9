import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from glasshouse.data.augment import (
    _affine as affine_of,
    _sampling_grid as sampling_grid,
    augment,
    mix,
)
from glasshouse.data.images import ImageSet
from glasshouse.rng import keys_of, uniforms
from glasshouse.settings import AugmentSettings

TUTORIAL = AugmentSettings(
    rotation_range=15, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
)
EVERYTHING = AugmentSettings(
    rotation_range=30, width_shift_range=0.2, height_shift_range=0.1, zoom_range=0.2,
    horizontal_flip=True, random_crop=2, brightness_range=0.3, contrast_range=0.3,
    saturation_range=0.5, cutout=0.3,
)  # fmt: skip


def changed(images: ImageSet, epoch: int = 0, seed: int = 0, **settings: Any) -> torch.Tensor:
    return augment(
        torch.from_numpy(images.pixels),
        keys_of(images.ids),
        AugmentSettings(**settings),
        seed=seed,
        epoch=epoch,
    )


def test_no_settings_change_nothing(tiny_images: ImageSet) -> None:
    assert torch.equal(changed(tiny_images), torch.from_numpy(tiny_images.pixels).float())


@pytest.mark.parametrize("settings", [TUTORIAL, EVERYTHING])
def test_an_image_looks_the_same_in_any_batch(
    tiny_images: ImageSet, settings: AugmentSettings
) -> None:
    images, keys = torch.from_numpy(tiny_images.pixels), keys_of(tiny_images.ids)
    together = augment(images, keys, settings, seed=3, epoch=2)
    part = augment(images[20:27], keys[20:27], settings, seed=3, epoch=2)
    assert torch.equal(together[20:27], part)


def test_every_epoch_and_seed_looks_different(tiny_images: ImageSet) -> None:
    first = changed(tiny_images, rotation_range=15.0)
    assert not torch.allclose(first, changed(tiny_images, epoch=1, rotation_range=15.0))
    assert not torch.allclose(first, changed(tiny_images, seed=1, rotation_range=15.0))


def test_alternating_flips_show_both_views_in_any_two_epochs(tiny_images: ImageSet) -> None:
    plain = torch.from_numpy(tiny_images.pixels).float()
    epochs = [changed(tiny_images, epoch=e, horizontal_flip="alternating") for e in range(4)]
    for first, second in itertools.pairwise(epochs):
        assert torch.equal(first, second.flip(-1))
    flipped = (epochs[0] == plain.flip(-1)).flatten(1).all(dim=1)
    assert 16 < int(flipped.sum()) < 48  # of 64: chance decides who begins
    moved = changed(tiny_images, epoch=1, horizontal_flip="alternating", random_crop=2)
    assert not torch.equal(moved, epochs[1])


def test_images_of_a_batch_get_different_changes(tiny_images: ImageSet) -> None:
    same = torch.from_numpy(np.repeat(tiny_images.pixels[:1], 64, axis=0))
    result = augment(same, keys_of(tiny_images.ids), TUTORIAL, seed=0, epoch=0)
    assert len({tuple(row) for row in result.flatten(1).tolist()}) == 64


def test_flip_mirrors_about_half_of_the_images_exactly(tiny_images: ImageSet) -> None:
    original = torch.from_numpy(tiny_images.pixels).float()
    result = changed(tiny_images, horizontal_flip=True)
    mirrored = (result == original.flip(-1)).flatten(1).all(dim=1)
    kept = (result == original).flatten(1).all(dim=1)
    assert bool((mirrored | kept).all())
    assert 20 <= int(mirrored.sum()) <= 44


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "constant"])
def test_random_crop_equals_padding_and_cropping(tiny_images: ImageSet, fill_mode: str) -> None:
    result = changed(tiny_images, random_crop=3, fill_mode=fill_mode).numpy()
    mode: Any = {"nearest": "edge", "reflect": "symmetric", "constant": "constant"}[fill_mode]
    padded = np.pad(tiny_images.pixels, ((0, 0), (0, 0), (3, 3), (3, 3)), mode=mode)
    offsets = set()
    for image, whole in zip(result, padded, strict=True):
        found = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if np.array_equal(image, whole[:, y : y + 16, x : x + 16])
        ]
        assert found
        offsets.add(found[0])
    assert len(offsets) > 20


def test_geometry_agrees_with_scipy(tiny_images: ImageSet) -> None:
    """The affine maps do what Keras's ImageDataGenerator does with SciPy: order 1, mode nearest."""
    smooth = np.stack([ndimage.gaussian_filter(p.astype(float), (0, 2, 2)) for p in
                       tiny_images.pixels[:8]])  # fmt: skip
    ids = tiny_images.ids[:8]
    settings = AugmentSettings(rotation_range=25, width_shift_range=0.2, zoom_range=0.2)
    ours = augment(torch.from_numpy(smooth), keys_of(ids), settings, seed=0, epoch=0).numpy()
    matrices = affine_of(uniforms(0, "augment", 0, keys_of(ids), 12), settings, (16, 16))
    for image, matrix, result in zip(smooth, matrices, ours, strict=True):
        # From x, y in -1..1 to row, column in pixels; both measure from the centre of the image.
        turn = matrix[:, :2][::-1, ::-1]
        shift = matrix[:, 2][::-1] * 8
        centre = np.array([7.5, 7.5])
        offset = centre + shift - turn @ centre
        expected = np.stack(
            [ndimage.affine_transform(c, turn, offset, order=1, mode="nearest") for c in image]
        )
        assert np.abs(result - expected).max() < 0.02


@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
def test_grid_is_that_of_affine_grid(size: tuple[int, int]) -> None:
    settings = AugmentSettings(rotation_range=40, width_shift_range=0.2, zoom_range=0.3)
    maps = torch.from_numpy(
        affine_of(uniforms(0, "augment", 0, keys_of(np.array(list("abcde"))), 12), settings, size)
    )
    oracle = torch.nn.functional.affine_grid(maps, [len(maps), 3, *size], align_corners=False)
    assert torch.allclose(sampling_grid(maps, size), oracle, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 40), (40, 20), (16, 16)])
def test_a_rotation_is_one_in_pixels_whatever_the_shape(size: tuple[int, int]) -> None:
    draws = uniforms(0, "augment", 0, keys_of(np.array(list("abcde"))), 12)
    matrices = affine_of(draws, AugmentSettings(rotation_range=40), size)
    # Coordinates from -1 to 1 reach over half the width in x and half the height in y.
    half = np.diag([size[1] / 2, size[0] / 2])
    angles = np.radians(40) * (2 * draws[:, 0] - 1)
    for matrix, angle in zip(matrices, angles, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(half @ matrix[:, :2] @ np.linalg.inv(half), turn, atol=1e-6)


def test_a_rotated_disc_stays_a_disc_in_an_image_that_is_not_square() -> None:
    rows, columns = np.mgrid[:32, :64]
    disc = (np.hypot(rows - 15.5, columns - 31.5) < 10).astype(np.float32)
    images = torch.from_numpy(np.tile(200 * disc, (8, 3, 1, 1)))
    keys = keys_of(np.array(list("abcdefgh")))
    turned = augment(images, keys, AugmentSettings(rotation_range=90), seed=0, epoch=0)
    # Only the pixels at its edge are interpolated anew: a skewed disc would miss a fifth of it.
    assert float((turned - images).abs().mean(dim=(1, 2, 3)).max()) < 0.1 * float(images.mean())


def test_a_crop_moves_by_whole_pixels_in_an_image_that_is_not_square() -> None:
    draws = uniforms(0, "augment", 0, keys_of(np.array([str(i) for i in range(200)])), 12)
    matrices = affine_of(draws, AugmentSettings(random_crop=2), (20, 40))
    for place, half in ((0, 20), (1, 10)):
        moved = matrices[:, place, 2] * half
        np.testing.assert_allclose(moved, moved.round(), atol=1e-5)
        assert set(moved.round().astype(int)) == {-2, -1, 0, 1, 2}


def test_rotation_and_shift_stay_in_their_ranges() -> None:
    keys = keys_of(np.array([f"{i}" for i in range(4000)]))
    settings = AugmentSettings(rotation_range=15, width_shift_range=0.1, height_shift_range=0.2)
    matrices = affine_of(uniforms(0, "augment", 0, keys, 12), settings, (32, 32))
    degrees = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 14.9 < np.abs(degrees).max() <= 15.001
    # A shift by the whole width is 2 in coordinates from -1 to 1.
    assert 0.199 < np.abs(matrices[:, 0, 2]).max() <= 0.2001
    assert 0.398 < np.abs(matrices[:, 1, 2]).max() <= 0.4001


def test_brightness_scales_and_saturation_moves_towards_grey(tiny_images: ImageSet) -> None:
    original = torch.from_numpy(tiny_images.pixels).float()
    bright = changed(tiny_images, brightness_range=0.3)
    factors = (bright / original.clamp(min=1)).flatten(1).median(dim=1).values
    assert 0.7 <= float(factors.min()) < 0.8
    assert 1.1 < float(factors.max()) <= 1.3
    grey = original.mean(dim=1, keepdim=True).expand_as(original).contiguous()
    coloured = augment(
        grey, keys_of(tiny_images.ids), AugmentSettings(saturation_range=0.5), seed=0, epoch=0
    )
    assert torch.allclose(coloured, grey, atol=0.1)


def test_contrast_keeps_the_mean_luminance() -> None:
    images = torch.full((5, 3, 8, 8), 100.0)
    images[:, :, :4] = 140.0
    keys = keys_of(np.array(list("abcde")))
    result = augment(images, keys, AugmentSettings(contrast_range=0.5), seed=0, epoch=0)
    assert torch.allclose(result.mean(dim=(1, 2, 3)), torch.full((5,), 120.0), atol=0.05)
    assert float(result.std(dim=(1, 2, 3)).var()) > 1


def test_cutout_leaves_a_grey_square_of_the_requested_size() -> None:
    images = torch.zeros(2000, 3, 16, 16)
    keys = keys_of(np.array([str(i) for i in range(2000)]))
    result = augment(images, keys, AugmentSettings(cutout=0.25), seed=0, epoch=0)
    cut = result[:, 0] == 127.5
    areas = cut.sum(dim=(1, 2))
    assert int(areas.max()) == 16
    assert int(areas.min()) >= 4  # a centre at the corner leaves a quarter
    assert bool((result[:, 0][~cut] == 0).all())
    assert float(cut.float().mean(dim=0).min()) > 0.01  # every place is reached


def mixed(images: torch.Tensor, **settings: Any) -> tuple[torch.Tensor, Any, Any]:
    labels = torch.arange(len(images))
    keys = keys_of(np.array([str(i) for i in range(len(images))]))
    return mix(images, labels, keys, AugmentSettings(**settings), seed=0, epoch=0)


def test_mixup_blends_by_the_share_that_the_target_gets() -> None:
    images = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 4, 4)
    result, partners, share = mixed(images, mixup=0.4)
    expected = share * torch.arange(64.0) + (1 - share) * partners
    assert torch.allclose(result[:, 0, 0, 0], expected, atol=1e-4)
    assert 0 <= float(share.min()) < 0.1
    assert 0.9 < float(share.max()) <= 1


def test_cutmix_share_is_the_area_that_is_left() -> None:
    images = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 16, 16)
    result, partners, share = mixed(images, cutmix=1.0)
    own = (result[:, 0] == torch.arange(64.0).view(64, 1, 1)).float().mean(dim=(1, 2))
    other = (result[:, 0] == partners.view(64, 1, 1).float()).float().mean(dim=(1, 2))
    assert torch.allclose(own, share)
    assert torch.allclose(own + other, torch.ones(64))
    assert float(share.std()) > 0.1


def test_with_both_each_image_gets_one_of_them() -> None:
    images = torch.arange(200.0).view(200, 1, 1, 1).expand(200, 3, 16, 16)
    result, _, share = mixed(images, cutmix=1.0, mixup=1.0)
    is_blended = result[:, 0].flatten(1).std(dim=1) == 0
    whole = (share > 0.999) | (share < 0.001)
    assert 60 < int((is_blended & ~whole).sum()) < 140


def test_without_mixing_there_are_no_partners() -> None:
    images = torch.rand(4, 3, 8, 8)
    result, partners, share = mixed(images)
    assert result is images
    assert partners is None
    assert share is None


def test_a_flip_within_a_warp_mirrors_the_image(tiny_images: ImageSet) -> None:
    flipped = changed(tiny_images, horizontal_flip=True)
    # The same draws, through the interpolation that a zoom needs.
    warped = changed(tiny_images, horizontal_flip=True, zoom_range=1e-6)
    assert float((warped - flipped).abs().max()) < 0.1
