"""Every test has a time limit, which ends it rather than the whole run."""

import signal
import sys
import threading

import pytest

from tests.conftest import pytest_collection_modifyitems

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="limits by a signal need one that Windows does not have"
)


def seconds_left() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_the_clock_of_an_ordinary_test_is_running() -> None:
    assert 0 < seconds_left() <= 300


@pytest.mark.timeout(20)
def test_a_test_may_have_a_limit_of_its_own() -> None:
    assert 0 < seconds_left() <= 20


@pytest.mark.slow
def test_a_slow_test_has_more_time() -> None:
    assert 300 < seconds_left() <= 3600


def test_slow_tests_are_given_more_time_when_they_are_collected(
    request: pytest.FixtureRequest,
) -> None:
    made: dict[str, pytest.Item] = {
        name: pytest.Function.from_parent(request.node.parent, name=name, callobj=seconds_left)
        for name in ("slow", "realdata", "own", "ordinary")
    }
    for name in ("slow", "realdata"):
        made[name].add_marker(name)
    made["own"].add_marker("slow")
    made["own"].add_marker(pytest.mark.timeout(7))
    pytest_collection_modifyitems(list(made.values()))
    limits = {
        name: [mark.args for mark in item.iter_markers("timeout")] for name, item in made.items()
    }
    assert limits == {"slow": [(3600,)], "realdata": [(3600,)], "own": [(7,)], "ordinary": []}


def test_a_hang_fails_and_the_run_goes_on() -> None:
    # The plugin set the handler; only its clock is put forward.
    with pytest.raises(pytest.fail.Exception, match=r"Timeout \(>300"):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        threading.Event().wait(20)
