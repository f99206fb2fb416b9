import os
import subprocess
import sys
import time

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
    script = (
        "import signal, sys, time\n"
        "name = 'SIGBREAK' if sys.platform == 'win32' else 'SIGTERM'\n"
        "signal.signal(getattr(signal, name), lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    ask_to_stop(child.pid)
    assert child.wait(PATIENCE_S) == 7
    child.stdout.close()
