"""What a worker is given, and how it ends, without starting one."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.serving.service.worker_processes import (
    _Crew,
    _until_ready,
    can_work,
    end_with_parent,
    worker_command,
)

pytestmark = pytest.mark.skipif(not can_work(), reason="a system without Unix sockets")


def test_a_worker_is_given_its_place_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: begun.append((command, more)))
    with socket.socket() as listener:
        crew = _Crew(["serve"], listener, tmp_path, 3, print)
        crew.start(2)
        given, descriptors = listener.fileno(), crew.lifeline
        ((command, more),) = begun
    for descriptor in descriptors:
        os.close(descriptor)
    assert command == ["serve"] and list(crew.processes) == [2]
    # Ctrl+C in a terminal must not reach it, and of the lifeline it only has the end to read.
    assert more["start_new_session"] is True and more["pass_fds"] == (given, descriptors[0])
    assert json.loads(more["env"]["GLASSHOUSE_WORKER"]) == {
        "folder": str(tmp_path), "number": 2, "count": 3, "listener": given,
        "lifeline": descriptors[0],
    }  # fmt: skip


def test_a_signal_is_passed_on_to_every_worker(tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []

    def process(number: int) -> Any:
        def send(code: int) -> None:
            sent.append((number, code))
            if number == 0:
                raise ProcessLookupError

        return SimpleNamespace(send_signal=send)

    listener = socket.socket()
    crew = _Crew([], listener, tmp_path, 2, print)
    crew.processes = {0: process(0), 1: process(1)}
    for descriptor in crew.lifeline:
        os.close(descriptor)
    for count in (1, 2):
        crew.note(signal.SIGINT, None)
        assert crew.signals == count
    assert sent == [(0, signal.SIGTERM), (1, signal.SIGTERM)] * 2
    assert listener.fileno() == -1


def test_workers_are_waited_for_until_all_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    codes: dict[int, int | None] = {0: None, 1: None}

    def sleep(seconds: float) -> None:
        (tmp_path / f"{len(slept)}.ready").touch()
        slept.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    crew: Any = SimpleNamespace(
        folder=tmp_path, count=2,
        processes={n: SimpleNamespace(poll=lambda n=n: codes[n]) for n in codes},
    )  # fmt: skip
    assert _until_ready(crew, [0, 1]) is None
    assert slept == [0.05, 0.05]
    assert _until_ready(crew, [0, 1]) is None and len(slept) == 2
    (tmp_path / "0.ready").unlink()
    for code, found in ((3, 3), (-9, 9), (0, 0)):
        codes[1] = code
        assert _until_ready(crew, [0, 1]) == found


def test_a_worker_ends_once_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, code: ended.append((process, code)))
    reading, writing = os.pipe()
    thread = threading.Thread(target=end_with_parent, args=(reading,))
    thread.start()
    thread.join(0.02)
    assert thread.is_alive() and not ended
    os.close(writing)
    thread.join()
    os.close(reading)
    assert ended == [(os.getpid(), signal.SIGTERM)]


def test_a_worker_runs_the_command_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/glasshouse", "serve", "pets"])
    assert worker_command() == [sys.executable, "-m", "glasshouse", "serve", "pets"]
