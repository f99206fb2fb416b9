from dataclasses import replace

import numpy as np

from glasshouse.explanation.draw.overlay import (
    DEFAULT,
    PALETTES,
    ColourScale,
    colour_maps,
    colour_scale,
    coloured,
    in_grey,
    overlaid,
    overlay,
    transparent,
)
from glasshouse.explanation.nouns import Explanation
from tests.explanation.nets import NAMES, some_images

GREY = np.full((2, 2, 3), 128, dtype=np.uint8)


def explanation_of(maps: object, layer: str | None = None) -> Explanation:
    return Explanation(
        method="grad-cam" if layer else "integrated-gradients",
        maps=np.asarray(maps, dtype=np.float64),
        images=some_images(1, side=4),
        logits=np.zeros((1, 5)),
        targets=np.zeros(1, dtype=np.int64),
        class_names=NAMES,
        layer=layer,
    )


def test_positive_maps_take_the_palette_and_signed_ones_two_colours() -> None:
    positive, signed = np.array([[0.0, 2.0]]), np.array([[-1.0, 1.0]])
    scale = colour_scale(explanation_of([positive], "conv"), positive, "viridis")
    assert (scale.low, scale.high, scale.colours) == (0, 2, "viridis")
    assert not scale.is_signed
    scale = colour_scale(explanation_of([signed]), signed, "viridis")
    assert scale.is_signed and scale.low == -scale.high
    contrast = replace(explanation_of([positive], "conv"), against=np.array([1]))
    assert colour_scale(contrast, positive, "jet").is_signed


def test_a_few_extreme_pixels_do_not_make_all_others_pale() -> None:
    values = np.ones((100, 100))
    values[0, 0] = 1000
    assert colour_scale(explanation_of([values]), values, "jet").high == 1
    assert colour_scale(explanation_of([values], "conv"), values, "jet").high == 1000
    assert colour_scale(explanation_of([values * 0]), values * 0, "jet").high == 1
    # Only the most extreme half per cent: the scale reaches nearly to the end of a plain ramp.
    ramp = np.linspace(0, 1, 10_001).reshape(73, 137)
    for sign in (1, -1):
        scale = colour_scale(explanation_of([sign * ramp]), sign * ramp, "jet")
        assert abs(scale.high - 0.995) < 1e-9


def test_red_is_for_the_class_and_blue_against_it() -> None:
    values = np.array([[-1.0, 0.0, 1.0]])
    against, neither, towards = coloured(
        values, colour_scale(explanation_of([values]), values, "jet")
    )[0]
    assert towards[0] > towards[2] and against[2] > against[0]
    assert neither.min() > 240


def test_the_image_shows_through_where_the_map_is_weak() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.25]])
    scale = colour_scale(explanation_of([values], "conv"), values, "inferno")
    drawn = overlaid(GREY, values, scale).astype(int)
    np.testing.assert_array_equal(drawn[0, 0], GREY[0, 0])
    full = coloured(values, scale).astype(float)
    assert abs(drawn[0, 1] - (0.85 * full[0, 1] + 0.15 * 128)).max() <= 1
    assert abs(drawn[1, 0] - GREY[1, 0]).sum() > abs(drawn[1, 1] - GREY[1, 1]).sum() > 0


def test_a_map_that_a_page_lays_over_the_grey_image_is_the_one_in_a_file() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    for values in (np.array([[0.0, 1.0, 4.0], [0.5, 0.25, 0.0]]), np.array([[-1.0, 0, 2]] * 2)):
        scale = colour_scale(explanation_of([values]), values, "viridis")
        over, below = overlay(values, scale), in_grey(image)
        assert not over[values == 0, 3].any()
        share = over[..., 3:] / 255
        page = share * over[..., :3] + (1 - share) * below
        assert np.abs(page - overlaid(image, values, scale)).max() <= 1.5
    assert (np.ptp(below, axis=2) == 0).all()
    np.testing.assert_allclose(below[..., 0], image.mean(2), atol=0.5)


def test_what_does_not_speak_for_the_class_is_transparent() -> None:
    drawn = transparent(np.array([[-1.0, 0.0, 0.5, 1.0]]))
    assert drawn[0, :2, 3].tolist() == [0, 0]
    assert 0 < drawn[0, 2, 3] < drawn[0, 3, 3] < 255
    assert not transparent(np.zeros((2, 2)))[..., 3].any()


def test_a_scale_of_one_value_gives_every_pixel_its_first_colour() -> None:
    first = coloured(np.zeros((1, 1)), ColourScale(0.0, 1.0, DEFAULT))[0, 0]
    drawn = coloured(np.full((2, 2), 3.0), ColourScale(3.0, 3.0, DEFAULT))
    assert (drawn == first).all()


def test_one_palette_is_the_default_and_equal_steps_are_equally_bright() -> None:
    assert PALETTES[0] == DEFAULT
    steps = np.linspace(0, 1, 9)[None]
    values = coloured(steps, ColourScale(0.0, 1.0, DEFAULT)).astype(float)[0]
    brightness = values @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) > 5).all()


def test_every_map_lies_over_its_image_which_is_unchanged_where_the_map_is_zero() -> None:
    values = np.arange(16.0).reshape(1, 4, 4)
    for drawn_one in (explanation_of(values), explanation_of(values[:, :2, :2], "conv")):
        (drawn,) = colour_maps(drawn_one, "jet")
        assert drawn.pixels.shape == (4, 4, 3)
        assert not np.array_equal(
            drawn.pixels,
            colour_maps(replace(drawn_one, images=255 - drawn_one.images), "jet")[0].pixels,
        )
        grey = np.rint(drawn_one.images[0, :, 0, 0].mean())
        assert np.abs(drawn.pixels[0, 0] - grey).max() <= 1
