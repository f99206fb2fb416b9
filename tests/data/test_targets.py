import numpy as np
import pytest

from glasshouse.data.images import ImageSet, take
from glasshouse.data.targets import (
    class_counts,
    combinations_of,
    has_any,
    joined_names,
    names_at,
    rarest_labels,
)
from glasshouse.errors import DataError
from glasshouse.models.outputs import Predictions

MATRIX = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=bool)
NAMES = ("cat", "dog", "sofa")


def image_set(targets: np.ndarray) -> ImageSet:
    count = len(targets)
    pixels = np.zeros((count, 3, 4, 4), dtype=np.uint8)
    return ImageSet(pixels, targets, np.array([f"{n}" for n in range(count)]), NAMES)


def test_images_with_several_labels_have_no_single_one() -> None:
    images = image_set(MATRIX)
    assert images.is_multi_label
    with pytest.raises(DataError, match=r"may have several labels each .*one label per image"):
        _ = images.labels
    assert take(images, [1, 2]).label_matrix.tolist() == MATRIX[1:3].tolist()
    assert [images.label_text(row) for row in range(3)] == ["cat, dog", "no label", "sofa"]
    assert images.rows_with(0).tolist() == [0, 3]


def test_one_label_each_is_a_matrix_of_one_label_each() -> None:
    images = image_set(np.array([2, 0]))
    assert not images.is_multi_label
    assert images.label_matrix.tolist() == [[False, False, True], [True, False, False]]
    assert images.rows_with(0).tolist() == [1]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (MATRIX.astype(np.int64), r"expected bool \(n, 3\)"),
        (MATRIX[:, :2], r"which of the 3 labels .*received bool \(4, 2\)"),
        (np.zeros((4, 3, 1), dtype=bool), "expected 4, one per image"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(targets: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_set(targets)


def test_predictions_of_several_labels_have_no_single_one() -> None:
    predictions = Predictions(
        np.zeros((4, 3), np.float32), MATRIX, np.arange(4).astype(str), NAMES, 1.0, (0.4, 0.6, 0.5)
    )
    with pytest.raises(DataError, match="several labels"):
        _ = predictions.labels
    assert predictions.names[0] == "cat, sofa"
    assert predictions.probabilities.tolist() == [[0.5] * 3] * 4


def test_equal_combinations_have_equal_numbers() -> None:
    numbers = combinations_of(MATRIX)
    assert numbers[0] == numbers[3]
    assert len(set(numbers.tolist())) == 3


def test_names_and_any_of_them() -> None:
    assert joined_names(names_at(MATRIX, 1, NAMES)) == "no label"
    chosen = np.array([False, True, False])
    assert has_any(MATRIX, chosen).tolist() == [True, False, False, True]
    assert has_any(np.array([1, 2]), chosen).tolist() == [True, False]


def test_images_of_each_label_and_the_rarest_of_an_image() -> None:
    assert class_counts(MATRIX, 3).tolist() == [2, 2, 1]
    assert class_counts(np.array([1, 1]), 3).tolist() == [0, 2, 0]
    several = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1]], bool)
    assert rarest_labels(several).tolist() == [1, 0, -1, 1, 1, 2]
    assert rarest_labels(np.array([2, 0])).tolist() == [2, 0]
    everyone = np.ones((2, 2), bool)
    assert rarest_labels(everyone).tolist() == [0, 0]
    # A label that an image does not have is never its rarest.
    assert rarest_labels(np.array([[0, 1], [0, 1]], bool)).tolist() == [1, 1]
