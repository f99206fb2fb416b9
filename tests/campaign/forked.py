"""Run the command hundreds of times: forked from a process that has imported everything.

A command of its own takes two seconds to import torch before it does anything. Here a server does
that once, and every job is a fork of it. Started as a program, this module is the server: it reads
one job per line from its input, as JSON, and answers each with a line.
"""

import contextlib
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from matplotlib.figure import Figure
from PIL import Image

from tests.journeys.command import own_environment

LONGEST_S = 300.0


@dataclass(frozen=True)
class Job:
    """A command to run.

    fail_at: the operation on files below ``cwd`` that fails with ``error_number``; 0: none.
    reads: whether opening a file for reading counts. kill_after: seconds until it is killed.
    """

    arguments: list[str]
    cwd: str
    fail_at: int = 0
    error_number: int = 0
    reads: bool = False
    kill_after: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    code: negative for a signal. memory: the most that it used, in MiB. operations: those on files
    below ``cwd``.
    """

    code: int
    output: str
    errors: str
    seconds: float
    memory: float
    operations: int
    failed: str


class Server:
    """Runs jobs one after the other; preload: a library that its processes load first."""

    def __init__(self, cwd: Path, preload: Path | None = None, **variables: str) -> None:
        path = os.pathsep.join(sys.path)
        environment = {**own_environment(cwd), "PYTHONPATH": path, **variables}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.forked"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, job: Job) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the server has ended"
        return Outcome(**json.loads(answer))

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def server(cwd: Path, preload: Path | None = None, **variables: str) -> Iterator[Server]:
    """A server that is closed at the end; variables: of its environment."""
    started = Server(cwd, preload, **variables)
    try:
        yield started
    finally:
        started.close()


def moments(longest: float, seed: int) -> Iterator[float]:
    """Random moments to kill a run that takes so long."""
    random_ = random.Random(seed)
    while True:
        yield random_.uniform(0.02, 1.0) * longest


def _serve() -> None:
    # Everything that a training and its report need, so that forks share it.
    import optuna  # noqa: F401
    import sklearn.datasets
    import sklearn.linear_model  # noqa: F401
    import timm  # noqa: F401

    import glasshouse.cli.main
    import glasshouse.cli.train
    import glasshouse.data.digits
    import glasshouse.workflow.train.feature_run
    import glasshouse.workflow.tune.study  # noqa: F401

    Image.init()
    # Drawing takes most of a small run's time, and touches no file.
    Figure.savefig = _save_one_pixel  # type: ignore[assignment, method-assign]
    if "LD_PRELOAD" in os.environ:
        _report_little()
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        outcome = _run(Job(**json.loads(line)))
        os.write(answers, (json.dumps(asdict(outcome)) + "\n").encode())


def _save_one_pixel(figure: object, file: IO[bytes], **_: object) -> None:
    Image.new("L", (1, 1)).save(file, "PNG")


def _report_little() -> None:
    """Write the same files with next to nothing in them: a disk does not read what it stores."""
    instead = {"plot_": lambda *_, **__: Figure(), "render_": lambda *_, **__: "a report"}
    ours = [module for name, module in sys.modules.items() if name.startswith("glasshouse.")]
    for module in ours:
        for name, value in list(vars(module).items()):
            for prefix, short in instead.items():
                if name.startswith(prefix) and callable(value):
                    setattr(module, name, short)


def _run(job: Job) -> Outcome:
    paths = {name: Path(f"{job.cwd}.{name}") for name in ("output", "errors", "disk")}
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_command(job, paths)
    status, memory = _wait(child, began, job.kill_after)
    texts = {}
    for name, path in paths.items():
        texts[name] = path.read_text(errors="replace") if path.exists() else ""
        path.unlink(missing_ok=True)
    count, _, failed = texts["disk"].partition(" ")
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    return Outcome(code, texts["output"], texts["errors"], seconds, memory, int(count or 0), failed)


def _wait(child: int, began: float, kill_after: float | None) -> tuple[int, float]:
    deadline = began + (LONGEST_S if kill_after is None else kill_after)
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used.ru_maxrss / 1024
        if time.monotonic() >= deadline:
            # The whole group: workers that decode or tune are processes of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, used.ru_maxrss / 1024
        time.sleep(0.002)


def _be_the_command(job: Job, paths: dict[str, Path]) -> None:
    os.setpgid(0, 0)
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(paths[name], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    os.chdir(job.cwd)
    sys.argv = ["glasshouse", *job.arguments]
    disk = ctypes.CDLL(None) if "LD_PRELOAD" in os.environ else None
    if disk is not None:
        nth, folder = job.fail_at or -1, job.cwd.encode() + b"/"
        disk.faulty_disk_arm(ctypes.c_long(nth), job.error_number, int(job.reads), folder)
    code = 1
    try:
        from glasshouse.cli.main import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if disk is not None:
            disk.faulty_disk_failed.restype = ctypes.c_char_p
            disk.faulty_disk_seen.restype = ctypes.c_long
            words = f"{disk.faulty_disk_seen()} {disk.faulty_disk_failed().decode()}"
            disk.faulty_disk_arm(ctypes.c_long(-1), 0, 0, b"")
            paths["disk"].write_text(words)
        os._exit(code)


if __name__ == "__main__":
    _serve()
