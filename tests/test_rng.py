import numpy as np

from glasshouse.rng import derive, keys_of, permutation, uniforms

IDS = np.array([f"train/{i:05d}" for i in range(20_000)])


def test_seeds_differ_by_every_part_of_the_purpose() -> None:
    seeds = {
        derive(0, "a"),
        derive(1, "a"),
        derive(0, "b"),
        derive(0, "a", 1),
        derive(0, "a", "1x"),
    }
    assert len(seeds) == 5


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive(7, "dropout", 3, 41) == 244487008596010514
    assert keys_of(np.array(["train/00001"])).tolist() == [1230920507078283151]


def test_an_image_gets_the_same_numbers_next_to_any_others() -> None:
    keys = keys_of(IDS[:100])
    together = uniforms(0, "augment", 4, keys, 12)
    alone = uniforms(0, "augment", 4, keys[17:18], 12)
    assert np.array_equal(together[17:18], alone)
    assert np.array_equal(together[:, :3], uniforms(0, "augment", 4, keys, 3))


def test_numbers_are_uniform_and_without_correlation() -> None:
    numbers = uniforms(0, "augment", 0, keys_of(IDS), 8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.abs(numbers.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(numbers.var(axis=0) - 1 / 12).max() < 0.003
    correlations = np.corrcoef(numbers.T) - np.eye(8)
    assert np.abs(correlations).max() < 0.03


def test_the_order_is_a_different_permutation_in_each_epoch() -> None:
    keys = keys_of(IDS[:1000])
    first, second = permutation(0, "order", 0, keys), permutation(0, "order", 1, keys)
    assert sorted(first.tolist()) == list(range(1000))
    assert np.mean(first == second) < 0.01
