import numpy as np
import pytest

from glasshouse.evaluation.evaluation import evaluate, to_json
from glasshouse.evaluation.intervals import wilson
from glasshouse.evaluation.set_coverage import measure_sets, reported_sets
from glasshouse.models.conformity import conformity_scores
from glasshouse.models.predict import Predictions

NAMES = ("ant", "bee", "cat")


def predictions(count: int, seed: int, *, calibrated: bool) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    logits = random.normal(0, 1, (count, 3)).astype(np.float32)
    logits[np.arange(count), labels] += 1.5
    ids = np.array([str(i) for i in range(count)])
    found = Predictions(logits, labels, ids, NAMES)
    if not calibrated:
        return found
    held_out = predictions(400, seed + 1, calibrated=False)
    scores = conformity_scores(
        held_out.probabilities, held_out.labels, temperature=1.0, source="the validation split"
    )
    return Predictions(logits, labels, ids, NAMES, conformity=scores)


def test_coverage_and_sizes_are_counted() -> None:
    found = predictions(500, 0, calibrated=True)
    assert found.conformity is not None
    rule = found.conformity.rule(0.9)
    members = rule.members(found.probabilities)
    metrics = measure_sets(found, rule)
    covered = sum(bool(members[i, label]) for i, label in enumerate(found.labels))
    assert metrics.coverage == wilson(covered, 500)
    assert metrics.mean_size.value == pytest.approx(members.sum() / 500)
    assert metrics.size_counts == tuple((members.sum(axis=1) == size).sum() for size in range(4))
    assert metrics.empty_count + sum(metrics.size_counts[1:3]) + metrics.whole_count == 500
    assert [row.support for row in metrics.per_class] == [*np.bincount(found.labels), 0]
    bees = found.labels == 1
    assert metrics.per_class[1].coverage == wilson(int(members[bees, 1].sum()), int(bees.sum()))
    assert metrics.per_class[1].mean_size == pytest.approx(members[bees].sum(axis=1).mean())
    assert metrics.per_class[2].coverage is None and metrics.per_class[2].mean_size is None
    assert 0.85 < metrics.coverage.value < 0.95


def test_an_evaluation_has_the_sets_where_there_are_scores() -> None:
    found = predictions(300, 3, calibrated=True)
    evaluation = evaluate(found)
    assert evaluation.prediction_sets == reported_sets(found)
    kinds = [(s.method, s.asked, s.class_conditional) for s in evaluation.prediction_sets]
    assert kinds == [
        ("lac", 0.9, False), ("lac", 0.95, False), ("lac", 0.95, True), ("aps", 0.95, False),
    ]  # fmt: skip
    assert to_json(evaluation)["prediction_sets"][0]["coverage"]["value"] > 0.8
    assert evaluate(predictions(300, 3, calibrated=False)).prediction_sets == ()
