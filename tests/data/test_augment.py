import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from glasshouse.data.augment import (
    _affine as affine_of,
    _boxes as boxes_of,
    _colour as coloured,
    _crop_shift as crop_shift,
    _cut_out as cut_out,
    _indices as indices_of,
    _luminance_weights as luminance_weights,
    _needs_interpolation as needs_interpolation,
    _sampling_grid as sampling_grid,
    _shift_by_pixels as shift_by_pixels,
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
    saturation_range=0.5, cutout=0.3, pixel_dropout=0.3,
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


def draws_of(**columns: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The draws of one image, by the number of their column after a letter; all others 0.5."""
    draws = np.full((1, 12), 0.5, np.float32)
    for name, value in columns.items():
        draws[0, int(name[1:])] = value
    return draws


def test_every_part_of_the_affine_map_has_its_own_draw() -> None:
    settings = AugmentSettings(
        rotation_range=90, width_shift_range=0.2, height_shift_range=0.25, zoom_range=0.5,
        horizontal_flip=True, random_crop=2,
    )  # fmt: skip
    draws = draws_of(c0=0.75, c1=0.6, c2=0.3, c3=0.9, c4=0.2, c5=0.4, c6=0.99, c7=0.1)
    # 45 degrees, zooms of 1.4 and 0.7, mirrored; 2 pixels of 40 to the right and of 20 upwards.
    expected = [[-0.989949, -0.247487, 0.18], [-1.979899, 0.494975, -0.4]]
    np.testing.assert_allclose(affine_of(draws, settings, (20, 40))[0], expected, atol=1e-6)
    draws[0, 5] = 0.5  # at which no image is mirrored
    expected = [[0.989949, -0.247487, 0.18], [1.979899, 0.494975, -0.4]]
    np.testing.assert_allclose(affine_of(draws, settings, (20, 40))[0], expected, atol=1e-6)


def test_a_crop_reaches_as_far_to_one_side_as_to_the_other() -> None:
    draws = np.full((3, 12), 0.5, np.float32)
    draws[0, 6:8], draws[2, 6:8] = (0, 0.2), (1 - 2**-24, 0.4)
    across, down = crop_shift(draws, AugmentSettings(random_crop=2))
    assert (across.tolist(), down.tolist()) == ([-2, 0, 2], [-1, 0, 0])
    # The largest draw that there is, multiplied in float32.
    last = np.array([[1 - 2**-24] * 12], np.float32)
    for reach in range(300):
        assert crop_shift(last, AugmentSettings(random_crop=reach))[0] == [reach]


def test_pixels_outside_of_an_image_are_taken_from_its_edge() -> None:
    positions = np.arange(-5, 10)
    inside, nearest = indices_of(positions, 4, "nearest")
    assert inside.tolist() == [False] * 5 + [True] * 4 + [False] * 6
    assert nearest.tolist() == [0] * 5 + [0, 1, 2, 3] + [3] * 6
    inside, reflected = indices_of(positions, 4, "reflect")
    assert inside.tolist() == [False] * 5 + [True] * 4 + [False] * 6
    assert reflected.tolist() == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1]


@pytest.mark.parametrize("flip", [0.25, 0.75])
def test_a_crop_of_a_mirrored_image_moves_as_that_of_another(flip: float) -> None:
    image = torch.arange(72, dtype=torch.uint8).view(1, 3, 4, 6) + 1
    settings = AugmentSettings(random_crop=1, horizontal_flip=True, fill_mode="constant")
    moved = shift_by_pixels(image, draws_of(c5=flip, c6=0.1, c7=0.9), settings)
    shown = image.flip(-1) if flip < 0.5 else image
    # Column 0 shows what is left of the image, and the last row what is below it.
    assert torch.equal(moved[:, :, :3, 1:], shown[:, :, 1:, :5])
    assert not moved[:, :, 3].any() and not moved[..., 0].any()
    assert moved.dtype == torch.uint8


def test_each_range_of_geometry_is_reason_enough_to_interpolate() -> None:
    for name in ("rotation_range", "width_shift_range", "height_shift_range", "zoom_range"):
        assert needs_interpolation(AugmentSettings.model_validate({name: 0.1}))
    assert not needs_interpolation(AugmentSettings(random_crop=2, horizontal_flip=True))


def test_colours_are_clipped_after_every_step() -> None:
    """Values computed by hand from the definitions of torchvision."""
    images = torch.tensor([[200.0, 0], [50, 10], [20, 100]]).view(1, 3, 1, 2)
    everything = AugmentSettings(brightness_range=0.5, contrast_range=0.5, saturation_range=0.5)

    steps: dict[tuple[float, float, float], list[list[float]]] = {
        (1, 1, 1): [[200, 0], [50, 10], [20, 100]],
        (2, 1, 1): [[255, 0], [100, 20], [40, 200]],
        # The mean luminance is 54.34; that of each pixel 91.41 and 17.27.
        (1, 2, 1): [[255, 0], [45.66, 0], [0, 145.66]],
        (1, 1, 2): [[255, 0], [8.59, 2.73], [0, 182.73]],
        (1, 0, 1): [[54.34, 54.34]] * 3,
        (1, 1, 0): [[91.41, 17.27]] * 3,
        # What a later step leaves of the values that an earlier one has clipped.
        (2, 0.5, 1): [[171.0, 43.5], [93.5, 53.5], [63.5, 143.5]],
        (2, 2, 0.5): [[198.77, 14.54], [127.77, 14.54], [71.27, 142.03]],
        (2, 2, 2): [[255, 0], [83.44, 0], [0, 255]],
    }
    for (bright, contrast, saturation), expected in steps.items():
        draws = draws_of(c8=bright - 0.5, c9=contrast - 0.5, c10=saturation - 0.5)
        found = coloured(images, draws, everything).view(3, 2)
        np.testing.assert_allclose(found, expected, atol=0.02)
    assert torch.equal(
        luminance_weights(torch.device("cpu")).flatten(), torch.tensor([0.2989, 0.587, 0.114])
    )


def test_a_colour_without_a_range_is_as_it_was() -> None:
    image = torch.tensor([200.0, 50, 20]).view(1, 3, 1, 1)
    draws = draws_of(c8=0.75, c9=0.75, c10=0.75)
    assert coloured(image, draws, AugmentSettings(cutout=0.5)) is image
    bright = coloured(image, draws, AugmentSettings(brightness_range=0.2))
    assert bright.flatten().tolist() == pytest.approx([220, 55, 22], abs=0.02)
    contrast = coloured(image, draws, AugmentSettings(contrast_range=0.5))
    assert contrast.flatten().tolist() == pytest.approx([227.15, 39.65, 2.15], abs=0.02)


def test_pixel_dropout_turns_single_pixels_grey_in_half_of_the_images() -> None:
    images = torch.zeros(2000, 3, 16, 16)
    keys = keys_of(np.array([str(i) for i in range(2000)]))
    result = augment(images, keys, AugmentSettings(pixel_dropout=0.4), seed=0, epoch=0)
    dropped = result[:, 0] == 127.5
    assert bool((result[:, 0][~dropped] == 0).all())
    assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 0], result[:, 2])
    shares = dropped.float().mean(dim=(1, 2))
    assert float((shares == 0).float().mean()) == pytest.approx(0.5, abs=0.04)
    # Each share up to the setting is as likely as any other.
    some = shares[shares > 0]
    assert float(some.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(some.max()) == pytest.approx(0.4, abs=0.08)
    # No place is preferred, and neighbours do not go together.
    assert dropped.float().mean(dim=0).sub(0.1).abs().max() < 0.03
    others = augment(images, keys, AugmentSettings(pixel_dropout=0.4), seed=0, epoch=1)
    assert not torch.equal(others, result)


def test_boxes_are_centred_at_their_places_and_cut_at_the_border() -> None:
    places = np.array([[0.5, 0.5], [0, 1], [0.25, 0.9]], np.float32)
    boxes, areas = boxes_of(places, np.array([0.5, 0.5, 0.25], np.float32), (8, 16))
    corners = []
    for box in boxes:
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert box.sum() == len(rows) * len(columns)
        corners.append((rows[0], rows[-1], columns[0], columns[-1]))
    assert corners == [(2, 5, 4, 11), (0, 1, 12, 15), (1, 2, 12, 15)]
    assert areas.tolist() == [0.25, 0.0625, 0.0625]
    assert areas.dtype == np.float32


def test_a_cutout_has_its_column_from_the_lower_bits_of_its_row() -> None:
    images = torch.zeros(1, 3, 8, 8)
    settings = AugmentSettings(cutout=0.25)
    # Half of the height; 0.75 of the width in the bits below the twelfth.
    found = cut_out(images, draws_of(c11=0.5 + 0.75 / 4096), settings)
    rows, columns = torch.nonzero(found[0, 0], as_tuple=True)
    assert (sorted(set(rows.tolist())), sorted(set(columns.tolist()))) == ([3, 4], [5, 6])
    assert set(found.flatten().tolist()) == {0, 127.5}


def test_chance_decides_in_which_epoch_an_image_is_mirrored_first(tiny_images: ImageSet) -> None:
    plain = torch.from_numpy(tiny_images.pixels).float()
    found = changed(tiny_images, epoch=2, seed=5, horizontal_flip="alternating")
    flipped = (found == plain.flip(-1)).flatten(1).all(dim=1)
    draws = uniforms(5, "flip", 0, keys_of(tiny_images.ids), 1)
    assert flipped.tolist() == (draws[:, 0] < 0.5).tolist()


def test_shares_are_those_of_a_beta_distribution() -> None:
    """Which is uniform for an alpha of 1, so that the share is the draw itself."""
    images = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 16, 16)
    draws = uniforms(0, "mix", 0, keys_of(np.array([str(i) for i in range(64)])), 5)
    _, partners, share = mixed(images, mixup=1.0)
    np.testing.assert_allclose(share, draws[:, 1], atol=1e-6)
    assert partners.tolist() == [63, *range(63)]
    result, _, share = mixed(images, cutmix=1.0)
    boxes, areas = boxes_of(draws[:, 2:4], np.sqrt(1 - draws[:, 1]), (16, 16))
    np.testing.assert_allclose(share, 1 - areas)
    partner = (torch.arange(64) - 1).remainder(64).float()
    assert torch.equal(result[:, 0] == partner.view(64, 1, 1), torch.from_numpy(boxes))
    # With both, half of the images get a box; each kind has its own alpha.
    _, _, both = mixed(images, cutmix=1.0, mixup=1.0)
    expected = np.where(draws[:, 0] < 0.5, 1 - areas, draws[:, 1])
    np.testing.assert_allclose(both, expected, atol=1e-6)
    _, _, extreme = mixed(images, cutmix=1.0, mixup=1e-3)
    is_blended = draws[:, 0] >= 0.5
    np.testing.assert_allclose(extreme[~is_blended], (1 - areas)[~is_blended])
    assert ((extreme < 0.01) | (extreme > 0.99))[is_blended].float().mean() > 0.9
    assert bool(extreme.isfinite().all())
