from dataclasses import replace

import numpy as np
import pytest

from glasshouse.errors import UsageError
from glasshouse.models.conformity import ConformityScores, conformity_scores
from glasshouse.models.outputs import Predictions
from glasshouse.models.prediction_sets import (
    SetRequest,
    describe_rule,
    prediction_sets,
    rule_of,
    set_json,
    set_line,
)

NAMES = ("ant", "bee", "cat")


def scores(count: int = 39, classes: int = 3) -> ConformityScores:
    """Of images whose true class, the first, has the probabilities 0.5 to 0.98."""
    own = np.linspace(0.5, 0.98, count)
    rest = np.repeat((1 - own)[:, None] / (classes - 1), classes - 1, axis=1)
    shares = np.concatenate([own[:, None], rest], axis=1)
    labels = np.zeros(count, dtype=np.int64)
    found = conformity_scores(shares, labels, temperature=1.0, source="the validation split")
    assert found is not None
    return found


def predictions(logits: list[list[float]], **more: object) -> Predictions:
    count = len(logits)
    return Predictions(
        np.log(np.array(logits, dtype=np.float32)),
        np.full(count, -1),
        np.array([f"{i}" for i in range(count)]),
        NAMES,
        **more,  # type: ignore[arg-type]
    )


def test_a_set_names_its_classes_best_first() -> None:
    found = predictions([[0.05, 0.45, 0.5], [0.98, 0.01, 0.01]], conformity=scores())
    # Of 39 scores, rank 38 is the second largest: a class needs 0.5 + 0.48 / 38.
    sets = found.prediction_sets(coverage=0.95)
    assert [*sets] == [(), ("ant",)]
    looser = found.prediction_sets(coverage=0.975)
    assert [*looser] == [("cat",), ("ant",)]
    assert looser.words(0) == "cat"


def test_sets_are_written_with_or_and_long_ones_are_counted() -> None:
    rule = scores(39, 20).rule(0.95, "aps")
    shares = np.full((1, 20), 0.05)
    names = tuple(f"c{i}" for i in range(20))
    sets = prediction_sets(shares, names, rule)
    assert len(sets[0]) > 1 or sets.words(0) == "c0"
    everything = prediction_sets(shares, names, scores(5, 20).rule(0.95))
    assert everything.words(0) == (
        "c0, c1, c2, c3, c4, c5 or 14 more: no class can be ruled out, at least 19 calibration "
        "images would be needed"
    )


def test_two_classes_are_joined_by_or_and_all_of_them_are_explained() -> None:
    rule = scores(5).rule(0.5)
    shares = np.array([[0.4, 0.4, 0.2]])
    members = np.array([[True, True, False]])
    sets = prediction_sets(shares, NAMES, rule)
    pair = type(sets)(rule, members, shares, NAMES)
    assert pair.words(0) == "ant or bee"
    assert set_line(pair, 0) == "50 % prediction set: ant or bee"
    whole = type(sets)(rule, np.ones((1, 3), dtype=bool), shares, NAMES)
    assert whole.words(0) == "ant, bee or cat: no class can be ruled out"


def test_an_empty_set_is_explained() -> None:
    sets = predictions([[0.34, 0.33, 0.33]], conformity=scores()).prediction_sets(coverage=0.9)
    assert sets.words(0).startswith("no class: none is probable enough")
    assert set_json(sets, 0)["classes"] == []


def test_a_classifier_without_scores_says_so_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="has no prediction sets: it comes without"):
        predictions([[0.4, 0.3, 0.3]]).prediction_sets()
    assert rule_of(None) is None
    with pytest.raises(UsageError, match="has no prediction sets"):
        rule_of(None, None, SetRequest(coverage=0.9))


def test_scores_of_another_temperature_or_class_count_are_dropped() -> None:
    found = predictions([[0.4, 0.3, 0.3]], conformity=scores())
    assert found.conformity is not None
    assert replace(found, temperature=2.0).conformity is None
    assert predictions([[0.4, 0.3, 0.3]], conformity=scores(classes=4)).conformity is None


def test_several_labels_per_image_are_refused_with_the_reason() -> None:
    several = predictions([[0.4, 0.3, 0.3]], thresholds=(0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match="one class; this one gives an image any number"):
        several.prediction_sets()
    assert rule_of(None, (0.5,)) is None
    with pytest.raises(UsageError, match="any number of labels"):
        rule_of(None, (0.5,), SetRequest(class_conditional=True))


def test_a_request_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match=r"90 % is 0\.9"):
        SetRequest(coverage=90)


def test_the_promise_says_over_what_it_holds() -> None:
    said = describe_rule(scores().rule(0.95), NAMES)
    assert said == (
        "Of images like the 39 it was calibrated on (the validation split), at least 95 % have "
        "their class in the set, over all images rather than for each class or image."
    )
    said = describe_rule(scores().rule(0.95, class_conditional=True), NAMES)
    assert "Of images of each class" in said
    assert "bee and cat are in every set: fewer than 19 calibration images" in said
    assert "39 calibration images are too few, at least 99" in describe_rule(
        scores().rule(0.99), NAMES
    )
