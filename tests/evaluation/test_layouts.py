"""Layouts keep neighbours, repeat themselves, and say how well they do."""

import numpy as np
import pytest

from glasshouse.errors import DataError
from glasshouse.evaluation.layouts import kept_neighbours, main_components, tsne_plane


def clouds(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Points in three clouds of 20 dimensions, and the cloud of each."""
    random = np.random.default_rng(0)
    of = np.arange(count) % 3
    return (8 * np.eye(20)[of] + random.normal(size=(count, 20))).astype(np.float32), of


def test_clouds_stay_together_and_equal_seeds_give_equal_points() -> None:
    features, of = clouds()
    components = main_components(features, 0)
    assert components.shape == (90, 20) and (np.diff(components.var(axis=0)) <= 1e-3).all()
    plane = tsne_plane(components, 0)
    assert plane is not None and plane.dtype == np.float32
    apart = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (of[apart.argmin(axis=1)] == of).all()
    np.testing.assert_array_equal(plane, tsne_plane(components, 0))
    assert kept_neighbours(components, plane, 0) > 0.9
    thrown = np.random.default_rng(1).normal(size=(90, 2)).astype(np.float32)
    assert kept_neighbours(components, thrown, 0) < 0.6


def test_the_first_two_components_are_those_of_the_singular_value_decomposition() -> None:
    features, _ = clouds()
    left, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    found = main_components(features, 0)[:, :2]
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


def test_few_points_and_points_that_are_alike_have_a_plane_without_t_sne() -> None:
    few = main_components(clouds(3)[0], 0)
    assert few.shape == (3, 3) and tsne_plane(few, 0) is None
    alike = main_components(np.ones((20, 4), np.float32), 0)
    assert not alike.any() and tsne_plane(alike, 0) is None
    assert np.isfinite(kept_neighbours(alike, alike[:, :2], 0))
    narrow = main_components(np.arange(12, dtype=np.float32)[:, None], 0)
    assert narrow.shape == (12, 2) and not narrow[:, 1].any()


def test_one_image_is_refused() -> None:
    with pytest.raises(DataError, match="a map needs 3 images or more, received 1"):
        main_components(np.ones((1, 4), np.float32), 0)
