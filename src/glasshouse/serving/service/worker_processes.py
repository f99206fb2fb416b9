"""Several processes that serve on one socket, started and ended together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from glasshouse.child_python import child_environment
from glasshouse.serving.service.peers import Peers

# Tells a process that it is a worker, and which.
_VARIABLE = "GLASSHOUSE_WORKER"
_POLL_SECONDS = 0.05
# A worker that ends at once would otherwise be started again all the time.
_PAUSE_SECONDS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker was given: who it is, the socket to serve on, and what ends with its parent."""

    peers: Peers
    listener: socket.socket
    lifeline: int


def this_worker() -> WorkerPlace | None:
    """What this process was given, if it is a worker."""
    given = os.environ.pop(_VARIABLE, None)
    if given is None:
        return None
    found = json.loads(given)
    peers = Peers(Path(found["folder"]), found["number"], found["count"])
    return WorkerPlace(peers, socket.socket(fileno=found["listener"]), found["lifeline"])


def can_work() -> bool:
    """Whether this system can hand a socket over to other processes."""
    return os.name == "posix"


@dataclass
class _Crew:
    """The workers that run, and what they were given."""

    command: Sequence[str]
    listener: socket.socket
    folder: Path
    count: int
    tell: Callable[[str], None]
    signals: int = 0
    lifeline: tuple[int, int] = field(default_factory=os.pipe)
    processes: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)

    def start(self, number: int) -> None:
        given = {
            "folder": str(self.folder), "number": number, "count": self.count,
            "listener": self.listener.fileno(), "lifeline": self.lifeline[0],
        }  # fmt: skip
        self.processes[number] = subprocess.Popen(
            self.command,
            env={**child_environment(), _VARIABLE: json.dumps(given)},
            pass_fds=(self.listener.fileno(), self.lifeline[0]),
            # Ctrl+C reaches this process, which passes it on.
            start_new_session=True,
        )

    def note(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on."""
        self.signals += 1
        # What no worker accepts any more must not wait here.
        self.listener.close()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    def replace_ended(self) -> None:
        """Start those again that ended by themselves."""
        for number, process in list(self.processes.items()):
            code = process.poll()
            if code is None or self.signals:
                continue
            if number not in self.due:
                self.tell(f"worker {number} ended with code {code}; another takes its place")
                self.due[number] = time.monotonic() + _PAUSE_SECONDS
            elif time.monotonic() >= self.due[number]:
                del self.due[number]
                self.start(number)


def run_workers(
    command: Sequence[str],
    listener: socket.socket,
    count: int,
    *,
    ready: Callable[[str], None],
    tell: Callable[[str], None],
) -> int:
    """Run a command in this many processes until a signal ends them; returns their exit code.

    listener: a bound socket, from which all of them accept connections. ready: called with what
    they serve, once all can answer. The second worker starts after the first, which says why it
    cannot start; one that ends later is started again.
    """
    with tempfile.TemporaryDirectory(prefix="glasshouse-") as name, contextlib.ExitStack() as stack:
        crew = _Crew(command, listener, Path(name), count, tell)
        (crew.folder / "weights").mkdir()
        stack.enter_context(_handling(crew))
        stack.callback(_end, crew)
        for numbers in ([0], range(1, count)):
            for number in numbers:
                crew.start(number)
            code = _until_ready(crew, numbers)
            if code is not None:
                return code
        ready(Peers(crew.folder, 0, count).ready_file(0).read_text(encoding="utf-8"))
        while not crew.signals:
            crew.replace_ended()
            time.sleep(_POLL_SECONDS)
        return max(_code(process) for process in crew.processes.values())


def _until_ready(crew: _Crew, numbers: Sequence[int]) -> int | None:
    """Wait for these workers; the exit code of one that ended instead."""
    place = Peers(crew.folder, 0, crew.count)
    while not all(place.ready_file(number).exists() for number in numbers):
        for number in numbers:
            code = crew.processes[number].poll()
            if code is not None:
                return abs(code)
        time.sleep(_POLL_SECONDS)
    return None


def _code(process: "subprocess.Popen[bytes]") -> int:
    # One that did not yet handle the signal had not accepted anything either.
    code = process.wait()
    return 0 if code == -signal.SIGTERM else abs(code)


@contextlib.contextmanager
def _handling(crew: _Crew) -> Iterator[None]:
    before = {each: signal.signal(each, crew.note) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end(crew: _Crew) -> None:
    """End what still runs, and close what the workers were given."""
    for process in crew.processes.values():
        if process.poll() is None:
            process.terminate()
    for process in crew.processes.values():
        process.wait()
    for descriptor in crew.lifeline:
        os.close(descriptor)


def end_with_parent(lifeline: int) -> None:
    """Wait until the process that started this worker is gone, then end it: in a thread."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def worker_command() -> list[str]:
    """This very command, in another process."""
    return [sys.executable, "-m", "glasshouse", *sys.argv[1:]]
