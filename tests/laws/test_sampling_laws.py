"""What holds for the draws of every epoch, for any classes."""

import numpy as np
from hypothesis import given, settings, strategies as st

from glasshouse.data.sampling import draw_epoch
from glasshouse.rng import keys_of

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(
    lambda found: np.array(found, dtype=np.int64)
)
seeds, epochs = st.integers(0, 99), st.integers(0, 9)


def keys_for(labels: np.ndarray) -> np.ndarray:
    return keys_of(np.array([f"p{i}" for i in range(len(labels))]))


@given(labels_of, seeds, epochs)
@settings(max_examples=150, deadline=None)
def test_each_class_has_its_share_to_within_one_draw(
    labels: np.ndarray, seed: int, last: int
) -> None:
    keys, present = keys_for(labels), np.unique(labels)
    drawn = [
        labels[draw_epoch(keys, labels, "balanced", seed=seed, epoch=epoch).positions]
        for epoch in range(last + 1)
    ]
    assert all(len(each) == len(labels) for each in drawn)
    # In one epoch, and in all epochs up to it.
    for some in (drawn[-1], np.concatenate(drawn)):
        counts = np.bincount(some, minlength=5)
        assert np.abs(counts[present] - len(some) / len(present)).max() < 1
        assert counts.sum() == counts[present].sum()


@given(labels_of, seeds, epochs)
@settings(max_examples=150, deadline=None)
def test_within_a_class_no_image_is_repeated_before_all_were_used(
    labels: np.ndarray, seed: int, last: int
) -> None:
    keys, shown = keys_for(labels), np.zeros(len(labels), dtype=np.int64)
    for epoch in range(last + 1):
        draws = draw_epoch(keys, labels, "balanced", seed=seed, epoch=epoch)
        # Each draw knows how often its image was shown before, and none has the same number.
        for position in np.unique(draws.positions):
            numbers = np.sort(draws.showings[draws.positions == position])
            assert numbers.tolist() == list(range(shown[position], shown[position] + len(numbers)))
        shown += np.bincount(draws.positions, minlength=len(labels))
        for label in np.unique(labels):
            assert np.ptp(shown[labels == label]) <= 1


@given(labels_of, seeds, epochs)
@settings(max_examples=50, deadline=None)
def test_an_epoch_depends_neither_on_earlier_ones_nor_on_the_order_of_images(
    labels: np.ndarray, seed: int, epoch: int
) -> None:
    keys = keys_for(labels)
    turned = np.random.default_rng(seed).permutation(len(labels))
    for sampling in ("shuffle", "balanced"):
        one = draw_epoch(keys, labels, sampling, seed=seed, epoch=epoch)
        other = draw_epoch(keys[turned], labels[turned], sampling, seed=seed, epoch=epoch)
        assert turned[other.positions].tolist() == one.positions.tolist()
        assert other.showings.tolist() == one.showings.tolist()


def test_without_balancing_every_image_is_used_once() -> None:
    labels = np.array([0] * 30 + [1] * 2)
    draws = draw_epoch(keys_for(labels), labels, "shuffle", seed=0, epoch=3)
    assert sorted(draws.positions.tolist()) == list(range(32))
    assert set(draws.showings.tolist()) == {3}


def test_the_classes_of_an_epoch_are_mixed() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    draws = draw_epoch(keys_for(labels), labels, "balanced", seed=0, epoch=0)
    tenths = labels[draws.positions].reshape(10, 100).mean(axis=1)
    assert np.abs(tenths - 0.5).max() < 0.2
