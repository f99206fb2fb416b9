from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from glasshouse.models import neighbours
from glasshouse.models.neighbours import nearest_rows, squared_lengths, unit_rows


@pytest.mark.parametrize("block", [7, 100, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_neighbours_are_those_of_scikit_learn(
    block: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    random = np.random.default_rng(0)
    known: NDArray[Any] = unit_rows(random.normal(size=(500, 24))).astype(dtype)
    asked = unit_rows(random.normal(size=(40, 24)))
    found = nearest_rows(known, asked, 5)
    oracle = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(known.astype(np.float64))
    distances, rows = oracle.kneighbors(asked.astype(np.float64))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, atol=1e-6)


@pytest.mark.parametrize("kind", ["spread", "clustered", "equal", "with zeros"])
def test_a_few_queries_find_the_same_rows_from_half_precision(kind: str) -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(3000, 32))
    if kind == "clustered":
        # Nearly parallel, so that half precision tells hardly any of them apart.
        rows = 1 + 0.003 * rows
    if kind == "equal":
        rows[100:2000] = rows[100]
    asked = unit_rows(rows[[100, 200, 300]] + 0.0005 * random.normal(size=(3, 32)))
    known = unit_rows(rows).astype(np.float16)
    if kind == "with zeros":
        known[1500:1510] = 0
        asked = unit_rows(-known[[5, 6, 7]] - known[[8, 9, 10]])
    found = nearest_rows(known, asked, 5, squared_lengths(known))
    oracle = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(known.astype(np.float64))
    distances, expected = oracle.kneighbors(asked.astype(np.float64))
    np.testing.assert_allclose(found.distances**2, distances**2, atol=3e-6)
    apart = np.linalg.norm(known[found.rows].astype(np.float64) - asked[:, None], axis=2)
    np.testing.assert_allclose(apart, distances, atol=1e-5)
    if kind == "spread":
        np.testing.assert_array_equal(found.rows, expected)


@pytest.mark.parametrize("what", ["long rows", "long queries", "many queries", "float32"])
def test_half_precision_is_used_only_where_its_error_is_known(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_sifted", None)
    random = np.random.default_rng(4)
    known = unit_rows(random.normal(size=(50, 8))).astype(np.float16)
    asked = unit_rows(random.normal(size=(5 if what == "many queries" else 1, 8)))
    known, asked = {
        "long rows": (known * np.float16(1.1), asked),
        "long queries": (known, 1.1 * asked),
        "float32": (known.astype(np.float32), asked),
    }.get(what, (known, asked))
    nearest_rows(known, asked, 3, squared_lengths(known))


def test_an_image_is_its_own_nearest_neighbour_at_distance_zero() -> None:
    known = unit_rows(np.random.default_rng(1).normal(size=(50, 8)))
    found = nearest_rows(known, known, 1)
    assert found.rows[:, 0].tolist() == list(range(50))
    assert found.distances.max() < 1e-3


@pytest.mark.parametrize("block", [2, 100])
def test_equal_rows_are_all_found_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    known = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    assert sorted(nearest_rows(known, known[:1], 6).rows[0].tolist()) == [0, 1, 2, 3, 4, 5]


def test_fewer_rows_than_asked_for_are_all_returned() -> None:
    known = unit_rows(np.eye(3))
    assert sorted(nearest_rows(known, known[:1], 5).rows[0].tolist()) == [0, 1, 2]


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    found = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
