from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from glasshouse.cli import processes
from glasshouse.errors import ProcessError
from glasshouse.training import process_group


class Alone(process_group.ProcessGroup):
    """The first of two processes, of which the other has ended."""

    def told(self, value: object) -> object:  # type: ignore[override]
        raise ProcessError("another process of this training has ended")


@pytest.fixture
def left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def joined() -> Iterator[process_group.ProcessGroup]:
        yield Alone(0, 2)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(process_group, "joined", joined)


@pytest.mark.usefixtures("left_alone")
def test_a_process_that_leaves_after_the_work_is_not_missed() -> None:
    done = []
    with processes.as_first():
        done.append("the run")
    assert done == ["the run"]


@pytest.mark.usefixtures("left_alone")
def test_a_process_that_leaves_during_the_work_is_an_error() -> None:
    with pytest.raises(ProcessError), processes.as_first():
        raise ProcessError("another process of this training has ended")
