from dataclasses import replace

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.explanation.mistakes import (
    confused_pairs,
    explain_mistakes,
    strongly_confused,
    worst_mistakes,
)
from glasshouse.models.predict import Predictions, predict
from glasshouse.report.explanation_page import render_mistakes_page
from tests.explanation.nets import NAMES, classifier_of, pooled_net, relative, some_images


def some_image_set(count: int = 12) -> ImageSet:
    labels = np.arange(count, dtype=np.int64) % 5
    ids = np.array([f"p/{i}" for i in range(count)])
    return ImageSet(some_images(count), labels, ids, NAMES)


def made_up_predictions() -> Predictions:
    labels = np.array([0, 0, 0, 1, 2], dtype=np.int64)
    logits = np.zeros((5, 3), dtype=np.float32)
    for row, (guess, strength) in enumerate([(0, 1), (1, 2), (1, 5), (0, 3), (2, 1)]):
        logits[row, guess] = strength
    return Predictions(logits, labels, np.array(list("abcde")), ("x", "y", "z"))


def test_mistakes_are_sorted_by_how_certain_they_were() -> None:
    assert worst_mistakes(made_up_predictions(), 2).tolist() == [2, 3]
    first, second = confused_pairs(made_up_predictions(), 5)
    assert (first.true, first.predicted, first.positions) == (0, 1, (2, 1))
    assert (second.true, second.predicted, second.positions) == (1, 0, (3,))


def test_every_strongly_confused_pair_is_shown_and_three_at_least() -> None:
    # Of 40 images a class a twentieth is two.
    labels = np.repeat(np.arange(6), 40)
    guesses = labels.copy()
    for start, places in {0: [1] * 12 + [2] * 3 + [3] * 2 + [4], 40: [0, 2]}.items():
        guesses[start : start + len(places)] = places
    logits = np.eye(6, dtype=np.float32)[guesses]
    predictions = Predictions(logits, labels, labels.astype(np.str_), tuple("abcdef"))
    found = [(pair.true, pair.predicted) for pair in strongly_confused(predictions)]
    assert found == [(0, 1), (0, 2), (0, 3)]
    guesses[80:90] = 5
    guesses[120:124] = 5
    strong = replace(predictions, logits=np.eye(6, dtype=np.float32)[guesses])
    found = [(pair.true, pair.predicted) for pair in strongly_confused(strong)]
    assert found == [(0, 1), (2, 5), (3, 5), (0, 2), (0, 3)]


def test_mistakes_are_explained_for_both_classes_and_their_difference() -> None:
    classifier, images = classifier_of(pooled_net(), double=True), some_image_set()
    predictions = predict(classifier_of(pooled_net()), images)
    found = explain_mistakes(classifier, images, predictions, count=3, pairs=1)
    assert len(found) == 2 and "taken for" in found[1].title
    worst = found[0]
    assert relative(worst.contrast.maps, worst.predicted.maps - worst.true.maps) < 1e-9
    page = render_mistakes_page(found)
    assert page.count("data:image/png;base64") == 2 and "http://" not in page
    assert worst._repr_png_().startswith(b"\x89PNG")
    other = replace(predictions, ids=predictions.ids[::-1])
    with pytest.raises(DataError, match="the predictions of these images"):
        explain_mistakes(classifier, images, other)
