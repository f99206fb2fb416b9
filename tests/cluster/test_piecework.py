"""Pieces whose results are put in order; no cluster is started."""

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
    assert compute(joined, pieces) == one_after_another(joined, pieces) == ["a0", "a1", "a2"]
    assert cluster.sent == [words] and cluster.sent[0] is words
    assert ended == [(1, 3), (2, 3), (3, 3)] and cluster.stopped == []
    assert compute(joined, []) == []


def test_an_error_of_a_piece_stops_the_others() -> None:
    cluster: Any = Instead()
    with pytest.raises(DataError, match="seven is missing"):
        at_the_same_time(cluster)(joined, [(["a"], number) for number in (1, 2, 7)])
    assert len(cluster.stopped) == 2


def test_a_signal_stops_the_pieces() -> None:
    cluster: Any = Instead()
    compute = at_the_same_time(cluster, signal_received=lambda: 15)
    with pytest.raises(Interrupted, match="repeat the command"):
        compute(joined, [(["a"], 1), (["b"], 2)])
    assert len(cluster.stopped) == 1
