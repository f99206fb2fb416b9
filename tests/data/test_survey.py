import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from glasshouse.data.images import ImageSet, take
from glasshouse.data.survey import (
    Survey,
    channel_statistics,
    global_statistics,
    survey,
    survey_blocks,
    survey_from_bytes,
    survey_slice,
    survey_to_bytes,
)
from glasshouse.errors import StorageError


def random_images(seed: int, count: int = 7, side: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def test_a_survey_has_the_digest_and_the_sums_of_each_image() -> None:
    pixels = random_images(0)
    found = survey(pixels)
    assert len(found) == 7
    assert found.image_pixels == 81
    for row, image in enumerate(pixels):
        expected = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        assert found.digests[row].tobytes() == expected
    wide = pixels.astype(np.int64)
    assert np.array_equal(found.sums, wide.sum(axis=(2, 3)))
    assert np.array_equal(found.squares, (wide**2).sum(axis=(2, 3)))


def test_sums_do_not_overflow_for_large_white_images() -> None:
    found = survey(np.full((1, 3, 1500, 1500), 255, np.uint8))
    assert found.sums.tolist() == [[255 * 1500**2] * 3]
    assert found.squares.tolist() == [[255**2 * 1500**2] * 3]
    assert found.is_constant.tolist() == [True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans())
def test_an_image_is_constant_when_each_channel_has_one_value(
    seed: int, side: int, is_flat: bool
) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 3, (6, 3, side, side), dtype=np.uint8)
    if is_flat:
        pixels[::2] = pixels[::2, :, :1, :1]
    expected = (pixels == pixels[:, :, :1, :1]).all(axis=(1, 2, 3))
    assert survey(pixels).is_constant.tolist() == expected.tolist()


def test_any_blocks_give_the_same_survey_and_a_part_is_a_slice() -> None:
    pixels = random_images(1)
    whole = survey(pixels)
    for cuts in ([3], [1, 2], [0, 7], [1, 2, 3, 4, 5, 6]):
        found = survey_blocks(np.split(pixels, cuts), 81)
        assert survey_to_bytes(found) == survey_to_bytes(whole)
    part = survey_slice(whole, 2, 6)
    assert survey_to_bytes(part) == survey_to_bytes(survey(pixels[2:6]))
    assert len(survey(pixels[:0])) == 0


def test_a_survey_is_the_same_after_it_was_written_and_read() -> None:
    found = survey(random_images(2))
    again = survey_from_bytes(survey_to_bytes(found))
    assert survey_to_bytes(again) == survey_to_bytes(found)
    assert again.image_pixels == found.image_pixels
    for data in (b"", b"{}", survey_to_bytes(found)[:-9]):
        with pytest.raises(StorageError, match="not a survey of images"):
            survey_from_bytes(data)


def test_the_survey_of_a_set_is_made_once_and_never_kept_for_other_pixels(
    tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counting(pixels: np.ndarray) -> Survey:
        made.append(len(pixels))
        return survey(pixels)

    monkeypatch.setattr("glasshouse.data.images.survey", counting)
    images = take(tiny_images, [0, 1, 2])
    assert images.survey is images.survey
    assert made == [3]
    other = replace(images, pixels=255 - images.pixels)
    assert (
        other.survey.sums.tolist()
        == (255 * images.survey.image_pixels - images.survey.sums).tolist()
    )
    assert made == [3, 3]


def test_channel_statistics_equal_numpys(tiny_images: ImageSet) -> None:
    mean, std = channel_statistics(tiny_images.survey)
    values = tiny_images.pixels / 255
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)), abs=1e-6)
    assert std == pytest.approx(values.std(axis=(0, 2, 3)), abs=1e-6)


def test_a_constant_channel_has_a_deviation_that_can_be_divided_by(tiny_images: ImageSet) -> None:
    black = take(tiny_images, [0, 1])
    black.pixels[:] = 0
    _, std = channel_statistics(black.survey)
    assert min(std) > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 256), st.integers(1, 30))
def test_channel_statistics_are_those_of_summing_floats_image_by_image(
    seed: int, side: int, levels: int, count: int
) -> None:
    """These numbers are part of trained classifiers, so they must not change in any digit."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, levels, (count, 3, side, side), dtype=np.uint8)
    total, squares = np.zeros(3), np.zeros(3)
    for start in range(0, count, 7):
        values = pixels[start : start + 7].astype(np.float64) / 255
        total += values.sum(axis=(0, 2, 3))
        squares += np.square(values).sum(axis=(0, 2, 3))
    size = count * side * side
    mean = total / size
    std = np.sqrt(np.maximum(squares / size - mean**2, 1e-8))
    found = channel_statistics(survey(pixels))
    for ours, theirs in ((found[0], mean), (found[1], std)):
        for one, other in zip(ours, theirs.tolist(), strict=True):
            # Where a value is exactly half-way between two, the rounding of floats decides.
            half = abs(Fraction(other).limit_denominator(10**13) * 10**6 % 1 - Fraction(1, 2))
            assert one == round(other, 6) or half < Fraction(1, 10**6)


def test_statistics_are_those_of_all_values() -> None:
    pixels = random_images(3)
    found = survey(pixels)
    scaled = pixels / 255
    mean, deviation = channel_statistics(found)
    assert mean == pytest.approx(scaled.mean(axis=(0, 2, 3)), abs=1e-6)
    assert deviation == pytest.approx(scaled.std(axis=(0, 2, 3)), abs=1e-6)
    mean, deviation = global_statistics(found)
    assert mean == pytest.approx([scaled.mean()] * 3, abs=1e-6)
    assert deviation == pytest.approx([scaled.std()] * 3, abs=1e-6)
