"""The whole evaluation of one set of predictions."""

import json
from dataclasses import replace

import numpy as np
import pytest

from glasshouse.errors import DataError
from glasshouse.evaluation.compare import compare
from glasshouse.evaluation.evaluation import evaluate, evaluate_any, to_json
from glasshouse.models.predict import Predictions


def noisy(n: int = 600, classes: int = 6) -> Predictions:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    names = tuple(f"class {c}" for c in range(classes))
    return Predictions(4 * logits.astype(np.float32), labels, np.arange(n).astype(str), names, 2.0)


def test_the_metrics_agree_with_each_other() -> None:
    found = evaluate(noisy())
    right = int(np.trace(found.confusion))
    assert found.image_count == found.confusion.sum() == 600
    assert found.accuracy.value == pytest.approx(right / 600)
    assert found.mistake_count == 600 - right
    assert found.macro.recall == pytest.approx(
        np.mean([c.recall.value for c in found.per_class if c.recall])
    )
    assert found.weighted.recall == pytest.approx(found.accuracy.value)
    assert found.selective[0].accuracy == found.accuracy
    assert found.commonest_share == max(c.support for c in found.per_class) / 600


def test_calibration_is_reported_before_and_after() -> None:
    found = evaluate(noisy())
    assert (found.before.temperature, found.after.temperature) == (1.0, 2.0)
    assert (found.loss, found.calibrated_loss) == (found.before.loss, found.after.loss)
    assert found.calibrated_loss < found.loss
    assert found.after.ece < found.before.ece


def test_top_k_is_left_out_where_it_is_always_1() -> None:
    assert [top.k for top in evaluate(noisy(classes=6)).top_k] == [3, 5]
    assert [top.k for top in evaluate(noisy(classes=5)).top_k] == [3]
    assert evaluate(noisy(classes=3)).top_k == ()
    three, five = evaluate(noisy()).top_k
    assert evaluate(noisy()).accuracy.value < three.accuracy.value < five.accuracy.value


def test_to_json_is_json_also_for_classes_without_images() -> None:
    predictions = replace(noisy(20), targets=np.zeros(20, np.int64))
    figures = json.loads(json.dumps(to_json(evaluate(predictions)), allow_nan=False))
    assert figures["per_class"][3]["recall"] is None
    assert figures["accuracy"].keys() == {"value", "low", "high"}
    assert np.array(figures["confusion"]).shape == (6, 6)


def test_a_comparison_is_json_too() -> None:
    figures = json.loads(json.dumps(to_json(compare(noisy(), noisy())), allow_nan=False))
    assert figures["difference"]["value"] == 0.0


def test_one_image_and_one_class_can_be_evaluated() -> None:
    one = Predictions(np.ones((1, 1), np.float32), np.zeros(1, np.int64), np.array(["a"]), ("x",))
    found = evaluate(one)
    assert found.accuracy.value == 1.0
    assert found.accuracy.low < 0.3
    assert found.mistakes == ()


def test_diverged_logits_are_refused() -> None:
    predictions = noisy(5)
    with pytest.raises(DataError, match="are not finite"):
        evaluate(replace(predictions, logits=predictions.logits * np.float32("inf")))


def test_the_predictions_are_left_as_they_were() -> None:
    predictions = noisy(50)
    before = predictions.logits.tobytes(), predictions.labels.tobytes()
    evaluate(predictions)
    assert (predictions.logits.tobytes(), predictions.labels.tobytes()) == before


def test_as_many_pairs_and_mistakes_are_listed_as_a_page_shows() -> None:
    found = evaluate(noisy(2000, 10))
    assert len(found.confused_pairs) == 20
    assert len(found.mistakes) == 100
    assert found.mistake_count > 100
    assert repr(found).startswith("Evaluation(2,000 images, 10 classes, accuracy ")
    low, value, high = (100 * each for each in (
        found.accuracy.low, found.accuracy.value, found.accuracy.high
    ))  # fmt: skip
    assert f"accuracy {value:.1f} % ({low:.1f} % to {high:.1f} %), loss {found.loss:.3f}" in repr(
        found
    )
    assert f"{found.mistake_count:,} mistakes)" in repr(found)


def test_the_baseline_is_the_share_of_the_most_frequent_class() -> None:
    predictions = replace(noisy(10, 3), targets=np.array([2, 2, 2, 2, 1, 1, 1, 0, 0, 0]))
    assert evaluate(predictions).commonest_share == pytest.approx(0.4)


def test_predictions_of_one_label_have_the_metrics_of_one_label() -> None:
    assert to_json(evaluate_any(noisy(30))) == to_json(evaluate(noisy(30)))
