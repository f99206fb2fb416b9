"""Pieces whose results are put in order; no cluster is started."""

from collections.abc import Iterator
from typing import Any

import pytest

from glasshouse.cluster.piecework import at_the_same_time, one_after_another
from glasshouse.errors import DataError, Interrupted
from tests.cluster.instead import Instead


def joined(words: list[str], number: int) -> str:
    if number == 7:
        raise DataError("seven is missing")
    return f"{words[0]}{number}"


def test_results_are_in_the_order_of_the_pieces_and_what_is_common_is_sent_once() -> None:
    cluster: Any = Instead()
    words, ended = ["a"], list[tuple[int, int]]()
    compute = at_the_same_time(cluster, on_end=lambda *numbers: ended.append(numbers))
    pieces = [(words, number) for number in range(3)]
    here = list(one_after_another(joined, pieces))
    assert list(compute(joined, pieces)) == here == ["a0", "a1", "a2"]
    assert cluster.sent == [words] and cluster.sent[0] is words
    assert ended == [(1, 3), (2, 3), (3, 3)] and cluster.stopped == []
    assert list(compute(joined, [])) == []


def test_an_error_of_a_piece_stops_the_others() -> None:
    cluster: Any = Instead()
    with pytest.raises(DataError, match="seven is missing"):
        list(at_the_same_time(cluster)(joined, [(["a"], number) for number in (1, 2, 7)]))
    assert len(cluster.stopped) == 2


def test_a_signal_stops_the_pieces() -> None:
    cluster: Any = Instead()
    compute = at_the_same_time(cluster, signal_received=lambda: 15)
    with pytest.raises(Interrupted, match="repeat the command"):
        list(compute(joined, [(["a"], 1), (["b"], 2)]))
    assert len(cluster.stopped) == 1


def test_pieces_that_are_made_as_they_are_needed_are_few_at_a_time() -> None:
    cluster: Any = Instead()
    words, made, taken = ["a"], list[int](), list[str]()

    def pieces() -> Iterator[tuple[list[str], int]]:
        for number in range(20, 30):
            made.append(number)
            yield words, number

    for result in at_the_same_time(cluster, on_end=lambda *_: pytest.fail("no list"))(
        joined, pieces()
    ):
        taken.append(result)
        # Two for each of the two places, and the one whose arguments are compared with theirs.
        assert len(made) - len(taken) <= 5
    assert taken == [f"a{number}" for number in range(20, 30)] and cluster.sent == [words]


def test_what_only_some_pieces_share_travels_once_for_these() -> None:
    cluster: Any = Instead()
    first, second = ["a"], ["b"]
    pieces = [(first, 1), (first, 2), (second, 3), (first, 4), (first, 5)]
    assert list(at_the_same_time(cluster)(joined, pieces)) == ["a1", "a2", "b3", "a4", "a5"]
    assert cluster.sent == [first]
