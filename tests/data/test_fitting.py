"""The geometry of images; the transforms of torchvision and timm are compared in tests/parity."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageOps

from glasshouse.data import fitting as module
from glasshouse.data.decode import Pixels
from glasshouse.data.fitting import (
    Fitting,
    Interpolation,
    Resize,
    Rounding,
    _middle as middle,
    _overlap as overlap,
    _resized_size as resized_size,
    fit,
    fit_to_size,
)
from tests.data.image_files import scene


def test_crop_keeps_the_centre() -> None:
    image = np.zeros((10, 30, 3), dtype=np.uint8)
    image[:, 10:20] = 200
    fitted = fit_to_size(image, 10, 10, "crop")
    assert fitted.shape == (3, 10, 10)
    assert (fitted == 200).all()


def test_crop_accepts_images_whose_sides_do_not_divide_evenly() -> None:
    for side in (29, 123, 225, 239, 450):
        assert 224 * (side / 224) > side  # which rounding makes larger than the image
        assert fit_to_size(np.zeros((side, side + 90, 3), np.uint8), 224, 224).shape == (
            3,
            224,
            224,
        )


def test_crop_is_scale_and_centre_crop() -> None:
    image = scene(40, 60)
    scaled = Image.fromarray(image).resize((30, 20), Image.Resampling.BICUBIC)
    expected = np.asarray(scaled.crop((5, 0, 25, 20)))
    fitted = fit_to_size(image, 20, 20, "crop").transpose(1, 2, 0)
    # The kernel does not reach outside the box, so the outermost columns may differ slightly.
    assert np.array_equal(fitted[:, 2:-2], expected[:, 2:-2])


def test_letterbox_keeps_everything_between_grey_bars() -> None:
    fitted = fit_to_size(np.full((10, 20, 3), 250, np.uint8), 20, 20, "letterbox")
    assert (fitted[:, 5:15] == 250).all()
    assert (fitted[:, :5] == 127).all()
    assert (fitted[:, 15:] == 127).all()


@pytest.mark.parametrize("turn", [False, True])
def test_the_middle_of_a_wide_or_high_target_is_that_of_the_image(turn: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 40, 3), dtype=np.uint8)
    expected = image[:, 8:32].reshape(4, 2, 12, 2, 3).mean(axis=(1, 3))
    if turn:
        image, expected = image.swapaxes(0, 1), expected.swapaxes(0, 1)
    fitted = fit(image, Fitting(len(expected), expected.shape[1], interpolation="box"))
    assert np.abs(fitted.transpose(1, 2, 0) - expected).max() <= 1


def test_stretch_changes_the_aspect_ratio() -> None:
    image = np.zeros((10, 20, 3), dtype=np.uint8)
    image[:, 10:] = 100
    fitted = fit_to_size(image, 8, 8, "stretch")
    assert fitted[0, 0, [0, 1, 6, 7]].tolist() == [0, 0, 100, 100]


def test_shrinking_averages_instead_of_skipping() -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    fitted = fit_to_size(np.repeat(board[:, :, None], 3, axis=2), 8, 8)
    assert np.abs(fitted.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1)])
def test_extreme_shapes_fit(resize: Resize, size: tuple[int, int]) -> None:
    assert fit_to_size(np.full((*size, 3), 9, np.uint8), 16, 16, resize).shape == (3, 16, 16)


def test_a_fitting_image_is_unchanged() -> None:
    image = scene(16, 16)
    assert np.array_equal(fit_to_size(image, 16, 16), image.transpose(2, 0, 1))


@pytest.mark.parametrize("rounding", ["torchvision", "timm"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_an_image_that_resizing_would_make_huge_is_cropped_first(
    rounding: Rounding, size: tuple[int, int]
) -> None:
    fitting = Fitting(224, 224, crop_fraction=0.875, rounding=rounding)
    fitted = fit(np.full((*size, 3), 9, np.uint8), fitting)
    assert fitted.shape == (3, 224, 224) and (fitted == 9).all()


def test_half_a_pixel_is_rounded_to_the_even_number() -> None:
    # Of 342 rows, 43 are cropped: 22 above and 21 below, where rounding down would take 21 above.
    image = np.zeros((342, 342, 3), np.uint8)
    image[22] = 255
    fitted = fit(image, Fitting(299, 299, crop_fraction=299 / 342, rounding="torchvision"))
    assert (fitted[:, 0] == 255).all() and not fitted[:, 1:].any()


def test_the_resized_size_is_rounded_down_as_timm_does() -> None:
    # 224 / 0.9 = 248.9, so that 12 of 248 columns are cropped on either side.
    image = np.zeros((248, 248, 3), np.uint8)
    image[:, 12] = 255
    fitted = fit(image, Fitting(224, 224, crop_fraction=0.9, rounding="timm"))
    assert (fitted[:, :, 0] == 255).all() and not fitted[:, :, 1:].any()


def test_the_interpolation_is_that_of_pillow() -> None:
    image = scene(40, 40)
    for name in get_args(Interpolation):
        expected = Image.fromarray(image).resize((16, 16), Image.Resampling[name.upper()])
        fitted = fit(image, Fitting(16, 16, interpolation=name))
        assert np.array_equal(fitted.transpose(1, 2, 0), np.asarray(expected))


def test_the_key_names_what_differs_from_how_data_sets_are_read() -> None:
    assert Fitting(32, 24).key == ("32", "24", "crop")
    changed = Fitting(32, 24, interpolation="bilinear", rounding="timm")
    assert changed.key == ("32", "24", "crop", "interpolation=bilinear", "rounding=timm")


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(40, 60), (61, 40), (33, 33), (17, 90), (90, 17)])
@pytest.mark.parametrize("wanted", [(20, 20), (24, 32), (31, 16)])
def test_a_crop_is_that_of_pillows_fit_and_a_letterbox_that_of_its_pad(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    image, target = Image.fromarray(noise(*size)), (wanted[1], wanted[0])
    how = Image.Resampling.BICUBIC
    cropped = fit(np.asarray(image), Fitting(*wanted)).transpose(1, 2, 0)
    assert np.array_equal(cropped, np.asarray(ImageOps.fit(image, target, how)))
    boxed = fit(np.asarray(image), Fitting(*wanted, "letterbox", bars=(9, 8, 7)))
    scale = min(wanted[0] / size[0], wanted[1] / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    inner = np.asarray(image.resize((columns, rows), how))
    top, left = (wanted[0] - rows) // 2, (wanted[1] - columns) // 2
    expected = np.empty((*wanted, 3), np.uint8)
    expected[:] = (9, 8, 7)
    expected[top : top + rows, left : left + columns] = inner
    assert np.array_equal(boxed.transpose(1, 2, 0), expected)


@pytest.mark.parametrize("resize", ["crop", "letterbox", "stretch"])
@pytest.mark.parametrize(
    ("fraction", "larger"), [(1.0, 24), (0.75, 32), (0.7, 34), (0.4, 60), (1.5, 24)]
)
def test_a_fraction_is_the_centre_of_a_larger_size(
    resize: Resize, fraction: float, larger: int
) -> None:
    image = noise(50, 40)
    found = fit(image, Fitting(24, 24, resize, fraction))
    whole = fit(image, Fitting(larger, larger, resize))
    first = (larger - 24) // 2
    assert np.array_equal(found, whole[:, first : first + 24, first : first + 24])


@pytest.mark.parametrize("rounding", ["none", "torchvision", "timm"])
def test_a_line_in_a_letterbox_is_one_pixel_wide(rounding: Rounding) -> None:
    fitting = Fitting(16, 12, "letterbox", rounding=rounding, bars=(9, 8, 7))
    for high in (True, False):
        image = np.full((600, 1, 3) if high else (1, 600, 3), 250, np.uint8)
        fitted = fit(image, fitting)
        expected = np.empty((3, 16, 12), np.uint8)
        expected[:] = np.array(fitting.bars).reshape(3, 1, 1)
        if high:
            expected[:, :, 5] = 250
        else:
            expected[:, 7] = 250
        assert np.array_equal(fitted, expected)


@pytest.mark.parametrize("rounding", ["torchvision", "timm"])
def test_what_a_library_pads_is_black(rounding: Rounding) -> None:
    image = np.full((40, 40, 3), 250, np.uint8)
    fitted = fit(image, Fitting(24, 24, crop_fraction=1.5, rounding=rounding))
    assert (fitted[:, 4:20, 4:20] == 250).all()
    assert fitted.sum() == 3 * 16 * 16 * 250


@pytest.mark.parametrize(
    ("size", "fitting", "expected"),
    [
        ((40, 61), Fitting(24, 24, "crop", 0.75, rounding="torchvision"), (32, 48)),
        ((61, 40), Fitting(24, 24, "crop", 0.75, rounding="timm"), (48, 32)),
        ((30, 61), Fitting(24, 36, "crop", rounding="timm"), (24, 49)),
        ((30, 61), Fitting(24, 36, "letterbox", rounding="timm"), (18, 36)),
        ((30, 61), Fitting(24, 24, "letterbox", rounding="timm"), (12, 24)),
        ((30, 61), Fitting(24, 35, "stretch", 0.9, rounding="torchvision"), (27, 39)),
        ((30, 61), Fitting(24, 35, "stretch", 0.9, rounding="timm"), (26, 38)),
        ((1, 600), Fitting(24, 36, "letterbox", rounding="timm"), (1, 36)),
        ((600, 1), Fitting(24, 36, "letterbox", rounding="timm"), (24, 1)),
    ],
)
def test_sizes_before_the_crop_are_those_of_the_libraries(
    size: tuple[int, int], fitting: Fitting, expected: tuple[int, int]
) -> None:
    assert resized_size(size, fitting) == expected


@pytest.mark.parametrize(
    ("size", "taken", "put"),
    [(10, (3, 7), (0, 4)), (9, (2, 6), (0, 4)), (11, (4, 8), (0, 4)), (4, (0, 4), (0, 4)),
     (1, (0, 1), (1, 2)), (2, (0, 2), (1, 3))],
)  # fmt: skip
def test_a_side_is_cropped_or_padded_around_its_centre(
    size: int, taken: tuple[int, int], put: tuple[int, int]
) -> None:
    assert overlap(size, 4) == (slice(*taken), slice(*put))


def test_the_middle_of_an_image_is_the_largest_box_of_the_wanted_shape() -> None:
    assert middle((10, 30), 10, 10) == (10, 0, 20, 10)
    assert middle((40, 10), 20, 10) == (0, 10, 10, 30)
    assert middle((30, 40), 5, 10) == (0, 5, 40, 25)


@pytest.mark.parametrize(
    ("size", "side", "is_part"),
    [
        # 2^24 pixels, and a few more of which the image itself has fewer.
        ((1, 1 << 16), 16, False), ((1, (1 << 16) + 1), 16, True),
        # No more pixels than the image has values.
        ((16, 1 << 21), 16, False), ((16, 1 << 21), 28, True),
        # Four times the wanted image, and a little more.
        ((100, 400), 2100, False), ((100, 401), 2100, True),
    ],
)  # fmt: skip
def test_a_part_is_computed_where_the_whole_would_be_large(
    size: tuple[int, int], side: int, is_part: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def part(_: Pixels, whole: tuple[int, int], rows: slice, columns: slice, how: str) -> int:
        calls.append((whole, rows.stop - rows.start, columns.stop - columns.start, how))
        return 0

    def whole(_: Pixels, height: int, width: int, __: Fitting) -> Pixels:
        return np.broadcast_to(np.uint8(0), (height, width, 3))

    monkeypatch.setattr(module, "enlarged_part", part)
    monkeypatch.setattr(module, "_resample", whole)
    fit(np.broadcast_to(np.uint8(0), (*size, 3)), Fitting(side, side, rounding="timm"))
    wide = side * size[1] // size[0]
    assert calls == ([((side, wide), side, side, "bicubic")] if is_part else [])
