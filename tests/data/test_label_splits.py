import numpy as np
import pytest

from glasshouse.data.splits import hold_out, limit, three_way_split
from glasshouse.errors import DataError


def drawn(count: int, shares: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    matrix = generator.random((count, len(shares))) < np.array(shares)
    return np.array([f"{seed}/{n}" for n in range(count)]), matrix


@pytest.mark.parametrize("seed", range(20))
def test_each_label_is_held_out_about_its_share(seed: int) -> None:
    ids, matrix = drawn(400, (0.5, 0.1, 0.02, 0.3), seed)
    held = hold_out(ids, matrix, 0.2, seed=seed, purpose="test", leave=2)
    for label in range(4):
        own = matrix[:, label]
        share = 0.2 * own.sum()
        assert share / 2 <= held[own].sum() <= 2 * share + 1 or own.sum() < 3


def test_every_split_has_every_label_that_has_a_few_images() -> None:
    for seed in range(20):
        ids, matrix = drawn(60, (0.5, 0.1, 0.2), seed)
        if matrix.sum(axis=0).min() < 3:
            continue
        splits = three_way_split(ids, matrix, validation_fraction=0.1, test_fraction=0.2, seed=seed)
        assert sorted(np.concatenate(splits)) == list(range(60))
        for rows in splits:
            assert matrix[rows].any(axis=0).all()


def test_an_image_stays_in_its_split_when_others_are_added() -> None:
    ids, matrix = drawn(1000, (0.4, 0.3, 0.3), 0)
    whole = hold_out(ids, matrix, 0.2, seed=0, purpose="test")
    part = hold_out(ids[:900], matrix[:900], 0.2, seed=0, purpose="test")
    assert (whole[:900] == part).all()


def test_a_limit_keeps_an_image_of_each_label_and_grows_by_inclusion() -> None:
    ids, matrix = drawn(300, (0.6, 0.01, 0.3), 3)
    few, more = limit(ids, matrix, 5, seed=0), limit(ids, matrix, 40, seed=0)
    assert len(few) == 5
    assert len(more) == 40
    assert set(few) <= set(more)
    assert matrix[few].any(axis=0).all()
    with pytest.raises(DataError, match="fewer than the 3 classes"):
        limit(ids, matrix, 2, seed=0)
