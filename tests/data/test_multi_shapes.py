import numpy as np
import pytest

from glasshouse.data.multi_shapes import make_multi_shapes
from glasshouse.errors import UsageError


def test_images_have_up_to_two_objects_that_do_not_overlap() -> None:
    images = make_multi_shapes("train", 300)
    assert images.masks is not None
    assert images.masks.shape == (300, 10, 40, 40)
    assert (images.masks.any(axis=(2, 3)) == images.label_matrix).all()
    assert images.masks.sum(axis=1).max() == 1
    counts = np.bincount(images.label_matrix.sum(axis=1), minlength=3)
    assert counts[0] > 0
    assert counts[2] > counts[1] > counts[0]
    assert images.label_matrix.sum(axis=0).min() > 30


def test_an_image_depends_on_its_id_alone() -> None:
    few, many = make_multi_shapes("test", 5), make_multi_shapes("test", 300)
    assert (few.pixels == many.pixels[:5]).all()
    assert few.masks is not None and many.masks is not None
    assert (few.masks == many.masks[:5]).all()


def test_a_size_at_which_shapes_look_alike_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 40 pixels, received 32"):
        make_multi_shapes("test", 5, size=32)


def test_images_are_those_of_earlier_versions() -> None:
    """As numbers of each image, which leave room for the rounding of other processors."""
    images = make_multi_shapes("train", 12)
    assert images.masks is not None
    areas = [163, 71, 95, 114, 178, 139, 143, 124, 116, 57, 163, 0]
    assert images.masks.sum((1, 2, 3)) == pytest.approx(areas, abs=1)
    across = [2962, 1085, 1668, 2133, 3533, 2949, 2651, 2041, 2319, 903, 2868, 0]
    assert (images.masks.any(1) * np.arange(40)).sum((1, 2)) == pytest.approx(across, abs=40)
    ramp = np.linspace(0.5, 1.5, 3 * 40 * 40).reshape(3, 40, 40)
    assert (images.pixels * ramp).mean((1, 2, 3)) == pytest.approx(
        [139.4, 136.1, 123.5, 118.3, 149.3, 113.8, 114.0, 162.2, 131.8, 126.6, 108.4, 132.2],
        abs=0.15,
    )
