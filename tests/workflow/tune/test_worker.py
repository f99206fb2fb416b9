import multiprocessing
import signal
from types import SimpleNamespace

import pytest

from glasshouse.workflow.tune.worker import _orphaned


@pytest.mark.parametrize(("is_alive", "expected"), [(True, None), (False, signal.SIGTERM)])
def test_a_worker_stops_once_its_search_has_died(
    is_alive: bool, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = SimpleNamespace(is_alive=lambda: is_alive)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: search)
    assert _orphaned() == expected


def test_training_outside_a_worker_process_is_not_orphaned() -> None:
    assert multiprocessing.parent_process() is None
    assert _orphaned() is None
