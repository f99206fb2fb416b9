"""The mistakes that every report explains: which images, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import DataError
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, predict
from glasshouse.workflow.train.worst_mistakes import explain_worst, images_named
from tests.explanation.nets import NAMES, classifier_of, pooled_net, some_images


def images_of(count: int, name: str, seed: int = 0) -> ImageSet:
    labels = np.arange(count, dtype=np.int64) % 5
    ids = np.array([f"{name}/{i}" for i in range(count)])
    return ImageSet(some_images(count, seed=seed), labels, ids, NAMES)


SPLITS = Splits(images_of(20, "train"), images_of(15, "validation", 1), images_of(5, "test", 2))


@pytest.fixture
def classifier() -> Classifier:
    return classifier_of(pooled_net())


def joined(first: Predictions, second: Predictions) -> Predictions:
    return Predictions(
        np.concatenate([first.logits, second.logits]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.ids, second.ids]),
        NAMES,
    )


def test_the_worst_of_the_validation_split_are_explained_and_six_at_most(
    classifier: Classifier,
) -> None:
    validation = predict(classifier, SPLITS.validation)
    found = explain_worst(classifier, SPLITS, validation)
    assert found.mistakes is not None and len(found.mistakes.ids) == 6
    assert all(str(name).startswith("validation/") for name in found.mistakes.ids)
    assert list(found.mistakes.probabilities) == sorted(found.mistakes.probabilities)[::-1]
    assert "validation split" in found.title and "The 6 most confident of " in found.text
    assert "only 15 images" in found.text and "label-errors" in found.text
    again = explain_worst(classifier, SPLITS, validation)
    assert again.mistakes is not None
    np.testing.assert_array_equal(again.mistakes.contrast.maps, found.mistakes.contrast.maps)


def test_of_a_small_split_the_out_of_fold_predictions_are_used(classifier: Classifier) -> None:
    validation = predict(classifier, SPLITS.validation)
    held_out = joined(predict(classifier, SPLITS.train), validation)
    # The head of a fold is certain, and wrong, of one training image.
    held_out.logits[3] = 30 * np.eye(5)[0]
    found = explain_worst(classifier, SPLITS, validation, held_out)
    assert found.mistakes is not None and found.mistakes.ids[0] == "train/3"
    assert found.mistakes.predicted.targets[0] == 0 and found.mistakes.true.targets[0] == 3
    np.testing.assert_array_equal(found.mistakes.true.images[0], SPLITS.train.pixels[3])
    assert "each of the 35 training and validation images was predicted by a head" in found.text


def test_what_was_not_found_or_cannot_be_explained_is_told(classifier: Classifier) -> None:
    validation = predict(classifier, SPLITS.validation)
    right = replace(validation, logits=np.eye(5, dtype=np.float32)[validation.labels])
    found = explain_worst(classifier, SPLITS, right)
    assert found.mistakes is None and found.text.startswith("There are no mistakes.")
    flat = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5)))
    found = explain_worst(flat, SPLITS, predict(flat, SPLITS.validation))
    assert found.mistakes is None and "They cannot be explained: " in found.text
    found = explain_worst(classifier, SPLITS, validation, is_trained_on=True)
    assert "These images were also trained on" in found.text


def test_a_large_split_needs_no_excuse(classifier: Classifier) -> None:
    many = replace(SPLITS, validation=images_of(200, "validation", 1))
    found = explain_worst(classifier, many, predict(classifier, many.validation))
    assert "only" not in found.text and "The test split is left alone" in found.text


def test_images_are_found_by_name_in_the_order_that_is_asked() -> None:
    names = np.array(["validation/2", "train/0", "validation/1"])
    found = images_named(SPLITS, names)
    assert found.ids.tolist() == names.tolist() and found.masks is None
    np.testing.assert_array_equal(found.pixels[1], SPLITS.train.pixels[0])
    with pytest.raises(DataError, match=r"1 image that .* have not, such as gone/0"):
        images_named(SPLITS, np.array(["validation/2", "gone/0"]))
