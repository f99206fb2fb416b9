import numpy as np
import pytest

from glasshouse.data.label_splits import held_count, hold_out_by_labels, limit_by_labels
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


@pytest.mark.parametrize(
    ("drawn", "members", "fraction", "leave", "count"),
    [
        # Between half and twice the share, which is 2 of 10; the bounds are rounded up.
        (0, 10, 0.2, 1, 1), (1, 10, 0.2, 1, 1), (2, 10, 0.2, 1, 2), (5, 10, 0.2, 1, 5),
        (6, 10, 0.2, 1, 5), (9, 10, 0.2, 1, 5), (0, 11, 0.2, 1, 2), (9, 12, 0.2, 1, 5),
        (9, 13, 0.2, 1, 6),
        # As many remain as are to be left.
        (3, 3, 0.9, 1, 2), (3, 3, 0.9, 2, 1), (1, 1, 0.5, 1, 0), (1, 1, 0.5, 2, 0),
        (0, 2, 0.1, 1, 1),
    ],
)  # fmt: skip
def test_as_many_are_held_out_as_were_drawn_within_bounds(
    drawn: int, members: int, fraction: float, leave: int, count: int
) -> None:
    assert held_count(drawn, members, fraction, leave) == count


def test_images_are_moved_for_their_rarest_label_alone() -> None:
    draws = np.array([0.9, 0.8, 0.7, 0.05, 0.1, 0.6, 0.02, 0.03])
    matrix = np.zeros((8, 2), dtype=bool)
    matrix[:3, 0] = matrix[:, 1] = True
    # Of the rare label none was drawn: that with the lowest number of the three is held out. Of the
    # other, five of eight are at most: half of 1.6 is one, and twice it and one are four.
    held = hold_out_by_labels(draws, matrix, 0.2, 1)
    assert held.tolist() == [False, False, True, True, False, False, True, True]
    # One more image stays in the training split: the one with the highest number of those held.
    fewer = hold_out_by_labels(draws, matrix, 0.3, 6)
    assert fewer.tolist() == [False, False, False, False, False, False, True, True]


def test_a_limit_has_the_first_image_of_each_label_and_then_the_first_of_all() -> None:
    draws = np.array([0.5, 0.1, 0.2, 0.9, 0.3])
    matrix = np.zeros((5, 4), dtype=bool)
    matrix[[1, 2, 4], 0] = matrix[[3, 0], 1] = matrix[3, 2] = True  # the last label is on none
    kept = {count: limit_by_labels(draws, matrix, count).tolist() for count in (3, 4, 5, 9)}
    assert kept == {3: [0, 1, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4], 9: [0, 1, 2, 3, 4]}
    with pytest.raises(DataError, match=r"data\.train_limit is 2, fewer than the 3 classes"):
        limit_by_labels(draws, matrix, 2)
