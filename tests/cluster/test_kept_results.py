"""Results that are kept until their command has ended."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from glasshouse.cluster.kept_results import kept_results
from glasshouse.cluster.pieces import Outcome
from glasshouse.cluster.piecework import at_the_same_time
from glasshouse.errors import StorageError
from glasshouse.storage import cache_folder
from tests.cluster.instead import Instead

COMMAND = ("glasshouse predict photos", "key", str)


@pytest.fixture
def cache() -> Path:
    """Where the results of commands are."""
    return cache_folder() / "results"


def interrupted(*numbers: int) -> None:
    """A command that keeps the results of pieces, and then fails."""
    with pytest.raises(KeyError), kept_results(*COMMAND) as kept:
        assert kept is not None
        for number in numbers:
            kept.keep((number,), Outcome(10 * number, warnings=("slow",)))
        raise KeyError


def test_what_a_command_had_got_is_there_for_the_next_one_until_that_has_ended(cache: Path) -> None:
    interrupted(1, 2)
    with kept_results(*COMMAND) as kept:
        assert kept is not None
        assert [kept.find((number,)) for number in (1, 2, 3)] == [
            Outcome(10, warnings=("slow",)), Outcome(20, warnings=("slow",)), None
        ]  # fmt: skip
    assert list(cache.iterdir()) == []


def test_another_command_has_nothing_of_it() -> None:
    interrupted(1)
    with kept_results("glasshouse predict photos", "another key", str) as kept:
        assert kept is not None and kept.find((1,)) is None
    with kept_results(*COMMAND) as kept:
        assert kept is not None and kept.find((1,)) is not None


@pytest.mark.parametrize("content", [b"", b"damaged", pickle.dumps({"value": 1})])
def test_what_is_damaged_is_computed_again(cache: Path, content: bytes) -> None:
    interrupted(1)
    next(cache.glob("*/1")).write_bytes(content)
    with kept_results(*COMMAND) as kept:
        assert kept is not None and kept.find((1,)) is None


def test_the_same_command_at_the_same_time_keeps_nothing(cache: Path) -> None:
    with kept_results(*COMMAND) as first:
        assert first is not None
        with kept_results(*COMMAND) as second:
            assert second is None
        first.keep((1,), Outcome(1))
        assert first.find((1,)) == Outcome(1)


def test_objects_that_others_could_have_written_are_not_read(cache: Path) -> None:
    interrupted(1)
    next(cache.iterdir()).chmod(0o777)
    with kept_results(*COMMAND) as kept:
        assert kept is None


def test_a_command_does_without_a_cache_that_cannot_be_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.write_text("a file")
    with kept_results(*COMMAND) as kept:
        assert kept is None
    cache.parent.unlink()

    def full(path: Path, data: bytes) -> None:
        raise StorageError("no space left")

    with kept_results(*COMMAND) as kept:
        assert kept is not None
        monkeypatch.setattr("glasshouse.cluster.kept_results.write_bytes", full)
        kept.keep((1,), Outcome(1))
        assert kept.find((1,)) is None


def test_pieces_whose_results_were_kept_are_not_handed_out_again() -> None:
    cluster: Any = Instead()
    begun, ended = list[int](), list[tuple[int, int]]()

    def work(number: int) -> int:
        begun.append(number)
        if number == 3 and begun.count(3) == 1:
            raise StorageError("the disk of a node is full")
        return 10 * number

    pieces = [(number,) for number in range(5)]
    with pytest.raises(StorageError), kept_results(*COMMAND) as kept:
        list(at_the_same_time(cluster, kept=kept)(work, pieces))
    assert begun == [4, 3]
    with pytest.warns(match="slow"):
        interrupted(1)
        with kept_results(*COMMAND) as kept:
            compute = at_the_same_time(
                cluster, kept=kept, on_end=lambda *numbers: ended.append(numbers)
            )
            assert list(compute(work, pieces)) == [0, 10, 20, 30, 40]
    # An error is not kept.
    assert sorted(begun) == [0, 2, 3, 3, 4]
    assert ended == [(number, 5) for number in range(1, 6)]
    assert not any((cache_folder() / "results").iterdir())
