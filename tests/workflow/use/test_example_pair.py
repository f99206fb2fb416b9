"""A right and a wrong answer, chosen, explained and drawn."""

from dataclasses import replace

import numpy as np
import pytest

from glasshouse.data.shapes import make_shapes
from glasshouse.errors import DataError
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.layers import build
from glasshouse.models.predict import Predictions, predict
from glasshouse.settings import ModelSettings
from glasshouse.workflow.use.example_pair import (
    draw_examples,
    explain_example,
    most_confident,
)


def predictions_of(logits: list[list[float]], labels: list[int]) -> Predictions:
    ids = np.array([str(row) for row in range(len(labels))])
    return Predictions(np.array(logits, dtype=np.float32), np.array(labels), ids, ("a", "b"))


def test_the_most_confident_right_and_wrong_answers_are_chosen() -> None:
    logits = [[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]]
    assert most_confident(predictions_of(logits, [0, 0, 0, 0])) == (1, 3)


def test_there_may_be_no_right_or_no_wrong_answer() -> None:
    logits = [[1.0, 0.0], [3.0, 0.0]]
    assert most_confident(predictions_of(logits, [0, 0])) == (1, None)
    assert most_confident(predictions_of(logits, [1, 1])) == (None, 1)


def test_an_example_names_both_classes_and_measures_its_map_against_the_mask() -> None:
    images = make_shapes("test", 10)
    net = build(ModelSettings(preset="small-cnn"), 10, (3, 32, 32), seed=0).eval()
    classifier = Classifier(net, Preprocessing(32, 32), images.class_names)
    predictions = predict(classifier, images)
    example = explain_example(classifier, images, predictions, 3, "saliency")
    assert example.true == images.class_names[images.labels[3]]
    assert example.predicted == images.class_names[int(predictions.logits[3].argmax())]
    assert example.is_right == (example.true == example.predicted)
    assert images.masks is not None
    assert example.area == pytest.approx(images.masks[3].mean())
    assert 0 < example.on_object < 1
    assert {check.name for check in example.explanation.checks} >= {"edges", "faithfulness"}
    assert to_png(draw_examples([example, example])).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="with a mask of the object"):
        explain_example(classifier, replace(images, masks=None), predictions, 3, "saliency")
