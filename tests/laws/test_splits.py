import numpy as np
from hypothesis import given, settings, strategies as st

from glasshouse.data.splits import hold_out, limit, three_way_split

_labels = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(np.array)
_fractions = st.floats(0.05, 0.6)
_seeds = st.integers(0, 5)


def _ids(count: int) -> np.ndarray:
    return np.array([f"folder/{number}.png" for number in range(count)])


@given(_labels, _fractions, _fractions, _seeds)
def test_a_three_way_split_is_a_partition(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> None:
    parts = three_way_split(
        _ids(len(labels)), labels, validation_fraction=validation, test_fraction=test, seed=seed
    )
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@given(_labels, _fractions, _fractions, _seeds)
def test_every_split_has_every_class_of_three_or_more(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> None:
    parts = three_way_split(
        _ids(len(labels)), labels, validation_fraction=validation, test_fraction=test, seed=seed
    )
    for label, count in enumerate(np.bincount(labels)):
        if count >= 3:
            assert all((labels[part] == label).any() for part in parts)


@given(_labels, _fractions, _seeds)
def test_the_order_of_the_images_does_not_matter(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    ids = _ids(len(labels))
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    held = hold_out(ids, labels, fraction, seed=seed, purpose="test")
    shuffled = hold_out(ids[order], labels[order], fraction, seed=seed, purpose="test")
    assert np.array_equal(held[order], shuffled)


@settings(max_examples=50)
@given(st.integers(200, 400), st.integers(0, 400), st.floats(0.2, 0.5), _seeds)
def test_no_image_moves_when_others_are_added(
    before: int, added: int, fraction: float, seed: int
) -> None:
    # With 100 images per class or more, chance stays between half and twice the share.
    labels = np.arange(before + added) % 2
    ids = _ids(before + added)
    first = hold_out(ids[:before], labels[:before], fraction, seed=seed, purpose="test")
    second = hold_out(ids, labels, fraction, seed=seed, purpose="test")
    assert np.array_equal(first, second[:before])


@given(_labels, _fractions, _seeds)
def test_a_class_stays_between_half_and_twice_its_share(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    held = hold_out(_ids(len(labels)), labels, fraction, seed=seed, purpose="test")
    for label in np.unique(labels):
        share = fraction * (labels == label).sum()
        count = held[labels == label].sum()
        assert count <= 2 * share + 1
        assert count >= min(share / 2, (labels == label).sum() - 1)


@given(_labels, st.integers(5, 100), st.integers(0, 50), _seeds)
def test_a_larger_limit_includes_the_images_of_a_smaller_one(
    labels: np.ndarray, count: int, more: int, seed: int
) -> None:
    ids = _ids(len(labels))
    small = limit(ids, labels, count, seed=seed)
    large = limit(ids, labels, count + more, seed=seed)
    assert len(small) == min(count, len(labels))
    assert set(small) <= set(large)
