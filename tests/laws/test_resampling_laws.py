"""A part of an enlarged image is that part of what Pillow makes of the whole."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from glasshouse.data.fitting import Interpolation
from glasshouse.data.resampling import enlarged_part

_SIDES = st.integers(1, 12)
_ENLARGED = st.integers(0, 300)


@given(st.data(), st.sampled_from(get_args(Interpolation)), st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_a_part_equals_that_of_pillow(
    data: st.DataObject, interpolation: Interpolation, seed: int
) -> None:
    height, width = data.draw(st.tuples(_SIDES, _SIDES))
    size = height + data.draw(_ENLARGED), width + data.draw(_ENLARGED)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = (_part(data, side) for side in size)
    whole = Image.fromarray(image).resize(size[::-1], Image.Resampling[interpolation.upper()])
    found = enlarged_part(image, size, rows, columns, interpolation)
    assert np.array_equal(found, np.asarray(whole)[rows, columns])


def _part(data: st.DataObject, side: int) -> slice:
    start = data.draw(st.integers(0, side - 1))
    return slice(start, data.draw(st.integers(start + 1, side)))


@pytest.mark.parametrize(("count", "wanted"), [(2, 31), (4, 26), (4, 54)])
def test_steps_to_the_nearest_pixel_are_added_up_as_in_pillow(count: int, wanted: int) -> None:
    """Where the product of a step and a number would be the next pixel."""
    image = np.arange(count * 3, dtype=np.uint8).reshape(1, count, 3)
    whole = Image.fromarray(image).resize((wanted, 1), Image.Resampling.NEAREST)
    found = enlarged_part(image, (1, wanted), slice(0, 1), slice(0, wanted), "nearest")
    assert np.array_equal(found, np.asarray(whole))


def test_far_along_a_side_the_nearest_pixel_is_found_without_the_steps_before() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    middle = 1 << 26
    columns = slice(middle - 1, middle + 1)
    found = enlarged_part(image, (1, 2 * middle), slice(0, 1), columns, "nearest")
    assert found.tolist() == image[:, 1:3].tolist()
