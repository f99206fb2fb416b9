from dataclasses import replace

import numpy as np
import pytest

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.evaluation.metrics import ConfusedPair
from glasshouse.explanation.mistakes import (
    explain_mistakes,
    strongly_confused,
)
from glasshouse.models.predict import Predictions, predict
from glasshouse.report.explanation_page import mistake_rows, render_mistakes_page
from glasshouse.report.run_report import confused_mistakes
from tests.explanation.nets import NAMES, classifier_of, pooled_net, relative, some_images


def some_image_set(count: int = 12) -> ImageSet:
    labels = np.arange(count, dtype=np.int64) % 5
    ids = np.array([f"p/{i}" for i in range(count)])
    return ImageSet(some_images(count), labels, ids, NAMES)


def test_every_strongly_confused_pair_is_shown_and_three_at_least() -> None:
    # Two of the 40 images of a class are 5 %.
    labels = np.repeat(np.arange(6), 40)
    guesses = labels.copy()
    for start, places in {0: [1] * 12 + [2] * 3 + [3] * 2 + [4], 40: [0, 2]}.items():
        guesses[start : start + len(places)] = places
    logits = np.eye(6, dtype=np.float32)[guesses]
    predictions = Predictions(logits, labels, labels.astype(np.str_), tuple("abcdef"))
    found = [pair.true + pair.predicted for pair in strongly_confused(predictions)]
    assert found == ["ab", "ac", "ad"]
    guesses[80:90] = 5
    guesses[120:124] = 5
    strong = replace(predictions, logits=np.eye(6, dtype=np.float32)[guesses])
    found = [pair.true + pair.predicted for pair in strongly_confused(strong)]
    assert found == ["ab", "cf", "df", "ac", "ad"]


def test_mistakes_are_explained_for_both_classes_and_their_difference() -> None:
    classifier, images = classifier_of(pooled_net(), double=True), some_image_set()
    predictions = predict(classifier_of(pooled_net()), images)
    found = explain_mistakes(classifier, images, predictions, count=3, pairs=1)
    assert len(found) == 2 and "predicted as" in found[1].title
    worst = found[0]
    assert relative(worst.contrast.maps, worst.predicted.maps - worst.true.maps) < 1e-6
    page = render_mistakes_page(found)
    # The image and three maps of each.
    count = sum(len(each.ids) for each in found)
    assert page.count("data:image/png;base64") == 4 * count and "http://" not in page
    assert page.count(" rather than ") >= 2 * count and "Each row is one validation image" in page
    rows = mistake_rows(worst)
    assert [row.id for row in rows] == worst.ids.tolist()
    assert rows[0].tiles[0][0] == "The image" and rows[0].tiles[1][0].startswith("Why ")
    empty = replace(worst, true=replace(worst.true, maps=np.zeros_like(worst.true.maps)))
    assert mistake_rows(empty)[0].tiles[2][0].endswith(": nothing speaks for it")
    assert worst._repr_png_().startswith(b"\x89PNG")
    other = replace(predictions, ids=predictions.ids[::-1])
    with pytest.raises(DataError, match="the predictions of these images"):
        explain_mistakes(classifier, images, other)


def test_the_report_and_the_page_of_mistakes_name_the_same_pairs_and_images() -> None:
    classifier, images = classifier_of(pooled_net()), some_image_set(60)
    predictions = predict(classifier, images)
    # Equal rows are tied, so that only the order of the images and classes can tell them apart.
    middle = predictions.logits.mean(axis=1, keepdims=True)
    tied = replace(predictions, logits=np.sign(predictions.logits - middle))
    for given in (predictions, tied):
        evaluation = evaluate(given)
        worst, *pairs = explain_mistakes(classifier, images, given, count=4, pairs=8)
        assert worst.ids.tolist() == [mistake.id for mistake in evaluation.mistakes[:4]]
        reported = confused_mistakes(evaluation, given)
        assert len(reported) > 1
        for pair, group, mistakes in zip(evaluation.confused_pairs, reported, pairs, strict=False):
            assert pairs_title(pair) == mistakes.title
            count = min(len(group), 4)
            assert mistakes.ids.tolist()[:count] == [mistake.id for mistake in group[:count]]


def pairs_title(pair: ConfusedPair) -> str:
    images = "image" if pair.count == 1 else "images"
    return f"{pair.true} predicted as {pair.predicted} ({pair.count} {images})"
