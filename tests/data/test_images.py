"""Image sets: what their fields must be, and the images that are taken from them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glasshouse.data.images import ImageSet, Splits, take, with_class_order, with_survey
from glasshouse.data.survey import survey
from glasshouse.errors import DataError

IDS = np.array(list("abcd"))
PIXELS = np.arange(4 * 3 * 2 * 5, dtype=np.uint8).reshape(4, 3, 2, 5)
MATRIX = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], dtype=bool)
ONE = ImageSet(PIXELS, np.array([0, 1, 1, 0]), IDS, ("ant", "bee"))
SEVERAL = ImageSet(PIXELS, MATRIX, IDS, ("ant", "bee"))


def test_a_set_tells_its_size_and_the_images_of_each_label() -> None:
    assert (ONE.height, ONE.width, len(ONE)) == (2, 5, 4)
    assert repr(ONE) == "ImageSet(4 images of 2x5, 2 classes)"
    assert repr(SEVERAL) == "ImageSet(4 images of 2x5, 2 labels)"
    assert [ONE.rows_with(label).tolist() for label in (0, 1)] == [[0, 3], [1, 2]]
    assert [SEVERAL.rows_with(label).tolist() for label in (0, 1)] == [[0, 2], [2, 3]]
    assert (ONE.is_multi_label, SEVERAL.is_multi_label) == (False, True)
    expected = [[True, False], [False, True], [False, True], [True, False]]
    assert ONE.label_matrix.tolist() == expected
    splits = Splits(ONE, ONE, ONE)
    assert (splits.resize, splits.class_names, splits.bad_files) == ("crop", ("ant", "bee"), ())
    assert repr(splits).splitlines()[1::3] == [f"  train={ONE!r},", "  bad_files=0,"]


def test_taken_images_have_all_that_belongs_to_them() -> None:
    masks = np.arange(4)[:, None, None] == np.zeros((4, 2, 5))
    sizes = np.arange(8, dtype=np.int32).reshape(4, 2)
    images = replace(ONE, masks=masks, sizes=sizes)
    for positions in ([3, -4], slice(3, None, -3)):
        found = take(images, positions)
        assert found.ids.tolist() == ["d", "a"] and found.labels.tolist() == [0, 0]
        assert np.array_equal(found.pixels, PIXELS[[3, 0]])
        assert found.masks is not None and found.masks.all(axis=(1, 2)).tolist() == [False, True]
        assert found.sizes is not None and found.sizes.tolist() == [[6, 7], [0, 1]]
    assert len(take(images, [])) == 0
    assert not np.shares_memory(take(ONE, slice(None)).pixels, PIXELS)
    assert take(ONE, [1]).masks is None and take(ONE, [1]).sizes is None


def test_labels_that_an_image_is_not_known_to_lack_are_not_added() -> None:
    assert with_class_order(SEVERAL, ("ant", "bee", "cat")) is SEVERAL
    assert with_class_order(SEVERAL, ("ant",)) is SEVERAL
    turned = with_class_order(SEVERAL, ("bee", "ant"))
    assert turned.label_matrix.tolist() == MATRIX[:, ::-1].tolist() and turned.masks is None
    more = with_class_order(ONE, ("cat", "bee", "ant"))
    assert more.labels.tolist() == [2, 1, 1, 2]


def test_a_known_survey_is_kept_with_the_same_images() -> None:
    known = survey(PIXELS)
    surveyed = with_survey(ONE, known)
    assert surveyed.survey is known and surveyed.pixels is PIXELS
    assert "survey" not in vars(ONE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": MATRIX[:, :1]}, r"expected bool \(n, 2\), .* received bool \(4, 1\)"),
        ({"targets": np.ones((4, 3), bool)}, r"the 2 labels .* received bool \(4, 3\)"),
        ({"targets": MATRIX.astype(np.uint8)}, r"received uint8 \(4, 2\); use .astype\(bool\)"),
        ({"targets": np.zeros(4)}, r"targets: expected integers \(int64\), received float64"),
        ({"targets": np.zeros(4, np.uint8)}, r"\(int64\), received uint8"),
        ({"targets": np.array([0, 1, 2, 0])}, "expected 0 to 1, .* received 0 to 2"),
        ({"targets": np.array([0, 1, -1, 0])}, "expected 0 to 1, .* received -1 to 1"),
        ({"targets": np.zeros(3, np.int64)}, "targets: expected 4, one per image; received 3"),
        ({"pixels": PIXELS[0]}, r"received uint8 \(3, 2, 5\)$"),
        ({"pixels": PIXELS[None]}, r"received uint8 \(1, 4, 3, 2, 5\)$"),
        ({"pixels": np.zeros((4, 4, 2, 5), np.uint8)}, r"received uint8 \(4, 4, 2, 5\)$"),
        ({"pixels": np.zeros((4, 3, 5), np.uint8)}, r"received uint8 \(4, 3, 5\)$"),
        ({"pixels": np.zeros((4, 3, 2, 5, 1), np.uint8)}, r"received uint8 \(4, 3, 2, 5, 1\)$"),
        ({"pixels": np.zeros((4, 2, 5, 3), np.uint8)}, r"\(4, 2, 5, 3\); move the channels"),
        ({"pixels": PIXELS > 0}, r"received bool \(4, 3, 2, 5\); use 255"),
        ({"pixels": PIXELS.astype(np.uint16)}, r"received uint16 \(4, 3, 2, 5\); its values"),
    ],
)  # fmt: skip
def test_fields_of_another_type_or_shape_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(ONE, **changes)
