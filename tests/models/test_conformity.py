from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from glasshouse.errors import StorageError, UsageError
from glasshouse.models.conformity import (
    ConformityScores,
    conformity_scores,
    fewest_images,
    rule_json,
    rule_of_json,
    scores_of,
)
from glasshouse.models.conformity_file import conformity_bytes, read_conformity
from glasshouse.storage import read_tensors, write_bytes, write_tensors

SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.4, 0.1]])
LABELS = np.array([0, 1, 0, 1])


def scores_from(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> ConformityScores:
    found = conformity_scores(shares, labels, temperature=1.5, source="the validation split")
    assert found is not None
    return found


def test_the_scores_are_those_of_the_true_classes() -> None:
    found = scores_from(SHARES, LABELS)
    # Sorted by label, then by probability.
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.shares.tolist() == [0.2, 0.7, 0.4, 0.6]
    assert found.above.tolist() == pytest.approx([0.8, 0.0, 0.5, 0.0])
    assert found.ranks.tolist() == [3, 1, 2, 1]


def test_the_limit_is_the_score_of_rank_n_plus_1_times_coverage() -> None:
    found = scores_from(SHARES, LABELS)
    # Scores 0.3, 0.4, 0.6, 0.8; (4 + 1) 0.6 = 3.
    assert found.rule(0.6).limits == pytest.approx((0.6,) * 3)
    assert found.rule(0.61).limits == pytest.approx((0.8,) * 3)
    assert found.rule(0.81).unlimited == (0, 1, 2)


def test_each_class_has_its_own_limit_on_request() -> None:
    rule = scores_from(SHARES, LABELS).rule(0.6, class_conditional=True)
    # (2 + 1) 0.6 is rank 2; no image shows the third class, so that nothing rules it out.
    assert rule.limits == pytest.approx((0.8, 0.6, np.inf))
    assert rule.unlimited == (2,)
    assert rule.members(np.array([[0.1, 0.45, 0.45]])).tolist() == [[False, True, True]]


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_fewer_images_than_needed_put_every_class_into_every_set(
    coverage: float, needed: int
) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), needed)
    assert fewest_images(coverage) == needed
    labels = np.zeros(needed, dtype=np.int64)
    assert not scores_from(shares, labels).rule(coverage).unlimited
    if needed > 1:
        fewer = scores_from(shares[1:], labels[1:])
        assert fewer.rule(coverage).members(shares).all()


@given(st.integers(2, 8), st.integers(0, 1000))
def test_adaptive_sets_are_never_empty_and_hold_the_best_classes(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.ones(classes), 30)
    labels = random.integers(0, classes, 30)
    for method in ("aps", "raps"):
        rule = scores_from(shares, labels).rule(0.8, method)
        members = rule.members(shares)
        assert members[np.arange(30), shares.argmax(axis=1)].all()
        inside = np.where(members, shares, np.inf).min(axis=1)
        assert (inside >= np.where(members, -np.inf, shares).max(axis=1)).all()


def test_the_most_probable_class_has_the_adaptive_score_zero_exactly() -> None:
    shares = np.random.default_rng(1).dirichlet(np.ones(50), 200)
    assert (scores_of(shares, "aps").min(axis=1) == 0).all()


def test_coverage_of_new_images_is_the_one_asked_for() -> None:
    random = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        shares = random.dirichlet(np.full(4, 0.5), 299)
        labels = np.array([random.choice(4, p=row) for row in shares])
        rule = scores_from(shares[:199], labels[:199]).rule(0.9)
        covered.append(rule.members(shares[199:])[np.arange(100), labels[199:]].mean())
    # The exact mean is ceil(200 * 0.9) / 200; the mean of 30,000 images is known to 0.3 %.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.008)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, float("nan"), True, "much"])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        scores_from(SHARES, LABELS).rule(coverage)


def test_percent_are_recognised_and_unknown_kinds_refused() -> None:
    with pytest.raises(UsageError, match=r"95 % is 0\.95"):
        scores_from(SHARES, LABELS).rule(95)
    with pytest.raises(UsageError, match="Did you mean 'raps'"):
        scores_from(SHARES, LABELS).rule(0.9, "rapz")  # type: ignore[arg-type]


def test_without_images_there_are_no_scores() -> None:
    assert conformity_scores(SHARES[:0], LABELS[:0], temperature=1.0, source="x") is None


@pytest.mark.parametrize("is_each", [False, True])
def test_a_rule_survives_json(is_each: bool) -> None:
    rule = scores_from(SHARES, LABELS).rule(0.6, class_conditional=is_each)
    assert rule_of_json(rule_json(rule), 3) == rule


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = scores_from(SHARES, LABELS)
    write_bytes(tmp_path / "c", conformity_bytes(scores))
    again = read_conformity(tmp_path / "c")
    assert conformity_bytes(again) == conformity_bytes(scores)
    assert again.rule(0.6) == scores.rule(0.6)


def test_the_order_of_the_images_does_not_matter() -> None:
    order = [2, 0, 3, 1]
    first, second = scores_from(SHARES, LABELS), scores_from(SHARES[order], LABELS[order])
    assert conformity_bytes(first) == conformity_bytes(second)


def test_a_thousand_classes_need_no_more_room_than_ten(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, 2000)
    scores = scores_from(random.dirichlet(np.ones(1000), 2000), labels)
    assert len(conformity_bytes(scores)) < 24 * 2000 + 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [("labels", 3), ("labels", -1), ("ranks", 0), ("ranks", 4), ("shares", 1.5),
     ("shares", float("nan")), ("above", -0.1)],
)  # fmt: skip
def test_impossible_scores_are_damage(tmp_path: Path, name: str, value: float) -> None:
    write_bytes(tmp_path / "c", conformity_bytes(scores_from(SHARES, LABELS)))
    tensors, metadata = read_tensors(tmp_path / "c")
    tensors[name][1] = value
    write_tensors(tmp_path / "c", tensors, metadata)
    with pytest.raises(StorageError, match="damaged"):
        read_conformity(tmp_path / "c")


def test_other_files_are_named(tmp_path: Path) -> None:
    write_tensors(tmp_path / "c", {}, {})
    with pytest.raises(StorageError, match="has no conformity scores"):
        read_conformity(tmp_path / "c")
    scores = scores_from(SHARES, LABELS)
    short = replace(scores, ranks=scores.ranks[:2])
    write_bytes(tmp_path / "c", conformity_bytes(short))
    with pytest.raises(StorageError, match="damaged"):
        read_conformity(tmp_path / "c")


def test_raps_adds_a_penalty_for_each_class_after_the_fifth() -> None:
    shares = np.array([[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]])
    penalty = scores_of(shares, "raps") - scores_of(shares, "aps")
    assert penalty[0] == pytest.approx([0, 0, 0, 0, 0, 0.01, 0.02])
