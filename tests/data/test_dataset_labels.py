"""The labels of a dataset's rows as targets: one each, lists of them, or vectors of 0 and 1."""

from typing import Any

import numpy as np
import pytest

from glasshouse.data.dataset_labels import row_targets, row_values
from glasshouse.errors import DataError


def found(
    rows: list[Any], names: list[str] | None = None, *, are_positions: bool = False
) -> tuple[list[Any], tuple[str, ...]]:
    values = [row_values(row, f"row {n}") for n, row in enumerate(rows)]
    targets, class_names = row_targets(values, names, are_positions=are_positions)
    return targets.tolist(), class_names


def test_one_label_in_each_row_is_one_label_each() -> None:
    assert found(["bee", "ant", "bee"]) == ([1, 0, 1], ("ant", "bee"))
    assert found([["bee"], ["ant"]]) == ([1, 0], ("ant", "bee"))
    assert found([2, 0, np.uint8(1)], ["a", "b", "c"]) == ([2, 0, 1], ("a", "b", "c"))
    assert found([[2], [0]], ["a", "b", "c"]) == ([2, 0], ("a", "b", "c"))
    assert found([True, False], ["no", "yes"]) == ([1, 0], ("no", "yes"))


def test_lists_of_labels_are_a_matrix() -> None:
    expected = [[True, False, True], [False, True, False], [False, False, False]]
    for rows in ([[2, 0], [1], []], [["c", "a"], ["b"], []]):
        assert found(rows, ["a", "b", "c"]) == (expected, ("a", "b", "c"))
    assert found([[1], [0]], ["a", "b"], are_positions=True)[0] == [[False, True], [True, False]]
    # Of rows of the same length, one of names, or with a number above 1, is no vector.
    assert found([["b", "a"], ["b", "c"]])[0] == [[True, True, False], [False, True, True]]
    assert found([[0, 1], [1, 2]], ["a", "b", "c"])[0] == [[True, True, False], [False, True, True]]


@pytest.mark.parametrize("kind", [bool, float])
def test_two_values_that_are_no_positions_are_a_vector(kind: type) -> None:
    rows: list[Any] = [np.array([0, 1], kind), np.array([1, 0], kind)]
    assert found(rows, ["a", "b"])[0] == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([1, 0, [0, 1]], r"^row 2: expected one label, as row 0 has it, or .*received \[0, 1\]$"),
        ([[], 0], r"^row 0: expected one label, as row 1 has it, or .*received \[\]$"),
        ([[0, 1, 2], [3, 3]], r"^row 1: expected different labels, .*received \[3, 3\]$"),
        ([[0, 2], np.array([True, False, True])], r"^row 1: expected different labels"),
        ([[0, 2], np.array([1.0, 0.0, 1.0])], r"^row 1: expected different labels"),
    ],
)
def test_rows_that_do_not_go_together_are_refused(rows: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        found(rows, ["a", "b", "c", "d"])


def test_what_was_received_is_shown_up_to_80_characters() -> None:
    with pytest.raises(DataError, match=r"^row 5: .* vector of 0 and 1; received \{'x{78}$"):
        row_values({"x" * 100: 1}, "row 5")
