import numpy as np
import pytest

from glasshouse.evaluation.suspect_labels import suspect_labels, suspect_pairs
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


def several(noise: float, count: int = 300) -> tuple[Predictions, set[tuple[int, int]]]:
    """Predictions that know the true labels well, and which of the given labels are wrong."""
    random = np.random.default_rng(0)
    true = random.random((count, 3)) < (0.2, 0.5, 0.7)
    logits = np.where(true, 2.0, -2.0) + random.normal(0, noise, true.shape)
    given, wrong = true.copy(), {(5, 0), (17, 1), (200, 2), (17, 2), (90, 0)}
    for row, label in wrong:
        given[row, label] ^= True
        logits[row, label] *= 2
    ids = np.array([f"{k}" for k in range(count)])
    names = ("cat", "dog", "sofa")
    return Predictions(
        logits.astype(np.float32), given, ids, names, thresholds=(0.5,) * 3
    ), wrong  # fmt: skip


def test_pairs_of_image_and_label_are_those_of_the_confident_joint_of_each_label() -> None:
    predictions, _ = several(noise=2.0)
    shares = 1 / (1 + np.exp(-predictions.logits.astype(np.float64)))
    expected = {}
    for k, name in enumerate(predictions.class_names):
        # Two classes, absent and present, by the definition of the paper: an example counts for
        # the class of the largest probability among those whose own average it reaches.
        both, given = np.stack([1 - shares[:, k], shares[:, k]], 1), predictions.targets[:, k]
        averages = [both[given == side, side].mean() for side in (0, 1)]
        for row in range(len(both)):
            reached = [side for side in (0, 1) if both[row, side] >= averages[side]]
            if reached and max(reached, key=lambda side: both[row, side]) != given[row]:
                expected[str(row), name] = both[row, int(given[row])]
    found = suspect_pairs(predictions, limit=10_000)
    assert len(expected) > 20
    assert [(each.id, each.label) for each in found] == sorted(expected, key=expected.__getitem__)


def test_wrong_labels_are_found_whether_they_are_missing_or_given() -> None:
    predictions, wrong = several(noise=0.5)
    found = suspect_pairs(predictions, limit=len(wrong))
    names = predictions.class_names
    assert {(int(each.id), names.index(each.label)) for each in found} == wrong
    for each in found:
        row, label = int(each.id), names.index(each.label)
        assert each.is_given == predictions.targets[row, label]
        assert each.probability == pytest.approx(1 / (1 + np.exp(-predictions.logits[row, label])))


def test_a_label_that_all_images_have_or_none_has_is_no_suspect() -> None:
    logits = np.array([[3, -3], [-3, 3], [2, 1]], dtype=np.float32)
    same = np.array([[True, False]] * 3)
    ids = np.array(["a", "b", "c"])
    predictions = Predictions(logits, same, ids, ("all", "none"), thresholds=(0.5, 0.5))
    assert suspect_pairs(predictions) == ()
