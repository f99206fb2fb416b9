"""The rows of a report that explain the labels of an image."""

import numpy as np

from glasshouse.data.images import ImageSet
from glasshouse.explanation.nouns import Explanation
from glasshouse.report.label_report import label_rows


def test_a_map_without_positive_values_says_that_nothing_speaks_for_the_label() -> None:
    pixels = np.zeros((1, 3, 8, 8), np.uint8)
    targets = np.array([[True, True]])
    images = ImageSet(pixels, targets, np.array(["photo"]), ("dog", "sofa"))
    maps = np.stack([np.ones((2, 2), np.float32), -np.ones((2, 2), np.float32)])
    explanation = Explanation(
        method="grad-cam", layer="layer4", maps=maps, images=np.repeat(pixels, 2, axis=0),
        targets=np.array([0, 1]), class_names=("dog", "sofa"), logits=np.zeros((2, 2), np.float32),
    )  # fmt: skip
    (row,) = label_rows(images, explanation, np.array([0, 0]), np.array([[0.9, 0.8]]))
    captions = [caption for caption, _ in row.tiles]
    assert captions == ["The image", "Why dog (90 %)", "Why sofa (80 %): nothing speaks for it"]
