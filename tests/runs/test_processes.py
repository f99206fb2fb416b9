import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.runs.processes import ask_to_stop, is_alive, process_started, this_process

PATIENCE_S = 600


def wait_until_ended(pid: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while process_started(pid) is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_start_of_a_process_is_the_same_for_every_reader() -> None:
    own = process_started(os.getpid())
    assert own is not None
    question = f"from glasshouse.runs.processes import *; print(process_started({os.getpid()}))"
    other = subprocess.run([sys.executable, "-c", question], capture_output=True, check=True)
    assert float(other.stdout) == own == process_started(os.getpid())
    assert this_process() == {"pid": os.getpid(), "pid_started": own}


def test_a_reused_number_is_not_taken_for_the_same_process() -> None:
    own = process_started(os.getpid())
    assert own is not None
    assert is_alive(os.getpid(), own)
    assert not is_alive(os.getpid(), own - 1)
    assert not is_alive(os.getpid(), None)


def test_a_zombie_process_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_until_ended(child.pid)
    assert child.returncode is None  # still a zombie
    child.wait()
    assert process_started(child.pid) is None


def test_a_process_is_asked_to_stop_by_a_signal_that_it_can_handle() -> None:
    child = start_stoppable()
    ask_to_stop(child.pid, process_started(child.pid))
    assert child.wait(PATIENCE_S) == 7


@pytest.mark.parametrize(
    ("is_ours", "offset", "reason"), [(False, 0.0, "not started by"), (True, 1.0, "has ended")]
)
def test_no_other_process_is_asked_to_stop(is_ours: bool, offset: float, reason: str) -> None:
    child = start_stoppable(is_ours=is_ours)
    started = process_started(child.pid)
    assert started is not None
    with pytest.raises(UsageError, match=reason):
        ask_to_stop(child.pid, started + offset)
    assert is_alive(child.pid, started)
    child.kill()
    child.wait()


def start_stoppable(*, is_ours: bool = True) -> "subprocess.Popen[bytes]":
    """A process that ends with 7 when it is asked to stop, and looks like one of Glasshouse."""
    script = (
        "import signal, sys, time\n"
        "name = 'SIGBREAK' if sys.platform == 'win32' else 'SIGTERM'\n"
        "signal.signal(getattr(signal, name), lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("glasshouse" if is_ours else "other.py")
        path.write_text(script, encoding="utf-8")
        child = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    child.stdout.close()
    return child
