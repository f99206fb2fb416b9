import numpy as np
import pytest

from glasshouse.evaluation.suspect_labels import suspect_labels
from glasshouse.models.predict import Predictions


def predictions() -> Predictions:
    return Predictions(
        logits=np.array([[0, 4], [3, 0], [0, 1], [0, 2]], dtype=np.float32),
        targets=np.array([0, 0, 0, 1]),
        ids=np.array(["strong", "right", "weak", "also right"]),
        class_names=("cat", "dog"),
    )


def test_contradicted_labels_come_most_contradicted_first() -> None:
    found = suspect_labels(predictions())
    assert [each.id for each in found] == ["strong", "weak"]
    assert (found[0].label, found[0].suggested) == ("cat", "dog")
    assert found[0].suggested_probability == pytest.approx(1 / (1 + np.exp(-4)))
    assert found[0].label_probability == pytest.approx(1 / (1 + np.exp(4)))


def test_the_order_does_not_depend_on_that_of_the_images() -> None:
    whole = predictions()
    order = np.array([2, 3, 0, 1])
    mixed = Predictions(
        whole.logits[order], whole.labels[order], whole.ids[order], whole.class_names
    )
    assert suspect_labels(mixed) == suspect_labels(whole)
    assert [each.id for each in suspect_labels(mixed, limit=1)] == ["strong"]


def test_no_more_than_the_limit_are_returned() -> None:
    assert [each.id for each in suspect_labels(predictions(), limit=1)] == ["strong"]


def test_a_label_as_likely_as_any_other_is_not_contradicted() -> None:
    tied = Predictions(
        np.array([[1, 1], [1, 1], [1, 2]], dtype=np.float32), np.array([0, 1, 0]),
        np.array(["a", "b", "c"]), ("cat", "dog"),
    )  # fmt: skip
    assert [each.id for each in suspect_labels(tied)] == ["c"]


def test_at_most_a_hundred_are_returned_by_default() -> None:
    count = 120
    logits = np.stack([np.zeros(count), np.linspace(1, 2, count)], axis=1).astype(np.float32)
    ids = np.array([f"{k}" for k in range(count)])
    many = Predictions(logits, np.zeros(count, np.int64), ids, ("cat", "dog"))
    assert [each.id for each in suspect_labels(many)] == [f"{119 - k}" for k in range(100)]
