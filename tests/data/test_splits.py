import numpy as np
import pytest

from glasshouse.data.splits import hold_out, limit, three_way_split, two_way_split
from glasshouse.errors import DataError


def _ids(count: int) -> np.ndarray:
    return np.array([f"p{number}" for number in range(count)])


def test_the_splits_have_approximately_the_given_fractions() -> None:
    labels = np.arange(5000) % 5
    train, validation, test = three_way_split(
        _ids(5000), labels, validation_fraction=0.1, test_fraction=0.2, seed=0
    )
    assert abs(len(test) - 1000) < 100
    assert abs(len(validation) - 400) < 70
    assert len(train) + len(validation) + len(test) == 5000


def test_another_seed_holds_out_others() -> None:
    labels = np.zeros(1000, dtype=np.int64)
    first = hold_out(_ids(1000), labels, 0.5, seed=0, purpose="test")
    second = hold_out(_ids(1000), labels, 0.5, seed=1, purpose="test")
    assert 350 < (first != second).sum() < 650


def test_a_class_of_three_has_one_image_in_each_split() -> None:
    labels = np.repeat(np.arange(30), 3)
    parts = three_way_split(_ids(90), labels, validation_fraction=0.1, test_fraction=0.2, seed=0)
    assert [np.unique(labels[part]).tolist() for part in parts] == [list(range(30))] * 3


def test_a_limit_is_spread_evenly_and_filled_up_from_larger_classes() -> None:
    labels = np.repeat([0, 1, 2], [3, 50, 50])
    chosen = limit(_ids(103), labels, 40, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [3, 19, 18]
    assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize("count", [3, 4, 5, 8, 11, 40, 102, 103])
def test_a_limit_is_reached_exactly(count: int) -> None:
    labels = np.repeat([0, 1, 2], [3, 50, 50])
    assert len(limit(_ids(103), labels, count, seed=0)) == count


def test_a_limit_above_the_count_takes_all() -> None:
    assert len(limit(_ids(10), np.arange(10) % 2, 99, seed=0)) == 10


def test_a_limit_below_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"train_limit is 2, fewer than the 3 classes"):
        limit(_ids(9), np.arange(9) % 3, 2, seed=0)


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ((5, 1, 3), 3, (1, 1, 1)),
        ((5, 1, 3), 4, (2, 1, 1)),
        ((5, 1, 3), 5, (2, 1, 2)),
        ((5, 1, 3), 6, (3, 1, 2)),
        ((5, 1, 3), 8, (4, 1, 3)),
        ((5, 1, 3), 9, (5, 1, 3)),
        ((5, 1, 3), 99, (5, 1, 3)),
        ((2, 2), 3, (2, 1)),
    ],
)
def test_a_limit_is_shared_out_from_the_smallest_class_up(
    sizes: tuple[int, ...], count: int, shares: tuple[int, ...]
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    kept = limit(_ids(len(labels)), labels, count, seed=0)
    assert tuple(np.bincount(labels[kept], minlength=len(sizes))) == shares
    assert kept.tolist() == sorted(set(kept.tolist()))


def test_images_are_in_the_splits_of_earlier_versions() -> None:
    ids, labels = _ids(24), np.arange(24) % 2
    held = hold_out(ids, labels, 0.25, seed=7, purpose="test")
    assert np.flatnonzero(held).tolist() == [0, 1, 5, 14, 15, 22, 23]
    parts = three_way_split(ids, labels, validation_fraction=0.25, test_fraction=0.25, seed=7)
    assert [part.tolist() for part in parts] == [
        [2, 3, 7, 8, 9, 10, 11, 12, 13, 17, 18, 19, 20], [4, 6, 16, 21], [0, 1, 5, 14, 15, 22, 23],
    ]  # fmt: skip
    train, validation = two_way_split(ids, labels, 0.25, seed=7)
    assert validation.tolist() == [3, 4, 6, 16, 21]
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(24))
    assert limit(ids, labels, 5, seed=7).tolist() == [0, 10, 11, 12, 15]


def test_one_image_of_each_class_remains_however_large_the_fraction() -> None:
    for count in range(1, 5):
        held = hold_out(_ids(count), np.zeros(count, int), 1.0, seed=0, purpose="test")
        assert held.sum() == count - 1
    parts = three_way_split(
        _ids(3), np.zeros(3, int), validation_fraction=1.0, test_fraction=0.1, seed=0
    )
    assert [len(part) for part in parts] == [1, 1, 1]
