import hashlib
import io
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from glasshouse.data import workers
from glasshouse.data.embedded import ImageFile, TarMember
from glasshouse.data.fitting import Fitting, fit
from glasshouse.data.headers import Header
from glasshouse.data.workers import Decoded, _kill_after, decode_files
from glasshouse.errors import BadImage, DataError
from glasshouse.storage import sha256_of_file
from tests.data.image_files import decoded, encoded, scene, write_folder

FITTING = Fitting(8, 8, "crop")


def _decode(paths: list[Path], **options: float) -> list[Decoded]:
    timeout_s = options.get("timeout_s", 20.0)
    results = decode_files(paths, FITTING, workers=2, timeout_s=timeout_s)
    return sorted(results, key=lambda result: result.position)


def _images(folder: Path, count: int) -> list[Path]:
    return sorted((write_folder(folder, {"cat": count}) / "cat").iterdir())


def test_processes_give_what_the_decoder_gives(tmp_path: Path) -> None:
    paths = _images(tmp_path, 7)
    for path, result in zip(paths, _decode(paths), strict=True):
        pixels = np.frombuffer(result.pixels, np.uint8).reshape(3, 8, 8)
        assert np.array_equal(pixels, decoded(path, 8, 8))
        assert result.sha256 == sha256_of_file(path)
        assert not result.reason


def test_a_bad_file_has_a_reason_and_no_pixels(tmp_path: Path) -> None:
    paths = _images(tmp_path, 3)
    paths[1].write_bytes(b"GIF89a")
    results = _decode(paths)
    assert [bool(result.pixels) for result in results] == [True, False, True]
    assert "GIF" in results[1].reason


def test_names_with_line_breaks_and_odd_bytes_work(tmp_path: Path) -> None:
    paths = _images(tmp_path, 2)
    odd = [tmp_path / "a\nb.png", Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))]
    for path, new in zip(paths, odd, strict=True):
        path.rename(new)
    assert all(result.pixels for result in _decode(odd))


def test_names_work_where_the_locale_has_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = _images(tmp_path, 1)
    path = path.rename(tmp_path / "\u732b.png")
    for name, value in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, value)
    # How Python names this file in a locale that knows ASCII alone.
    (found,) = _decode([Path(os.fsencode(path).decode("ascii", "surrogateescape"))])
    assert found.pixels, found.reason


def _run_before_decoding_003(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the child processes run this code before they decode 003.png, as a bug in C would."""
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "import glasshouse.data.decode as module\n"
        "whole = module.decode\n"
        "def decode(data, *, name):\n"
        f"    if name.endswith('003.png'): {code}\n"
        "    return whole(data, name=name)\n"
        "module.decode = decode\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))


@pytest.mark.parametrize("code", ["os.kill(os.getpid(), 11)", "time.sleep(60)"])
def test_a_file_that_crashes_or_hangs_the_decoder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    paths = _images(tmp_path, 6)
    came = f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close()"
    _run_before_decoding_003(f"{came}; {code}", tmp_path, monkeypatch)
    allowed: list[float] = []

    def kill_after(process: Any, timeout_s: float, answered: threading.Event) -> None:
        allowed.append(timeout_s)
        # Once the process has come to the file, it hangs: there is no need to wait for as long.
        while not answered.wait(0.05) and not (tmp_path / str(process.pid)).exists():
            pass
        _kill_after(process, 0.1, answered)

    monkeypatch.setattr("glasshouse.data.workers._kill_after", kill_after)
    results = _decode(paths, timeout_s=5.0)
    assert allowed == [5.0] * 7, "each file once, and the one with which a process ended again"
    assert [bool(result.pixels) for result in results] == [True] * 3 + [False] + [True] * 2
    assert results[3].reason == "the decoder crashed or took longer than 5 s"


def test_a_process_that_was_killed_once_costs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = _images(tmp_path, 6)
    first = tmp_path / "first"
    first.touch()
    code = (
        f"os.path.exists({str(first)!r}) and (os.remove({str(first)!r}), os.kill(os.getpid(), 9))"
    )
    _run_before_decoding_003(code, tmp_path, monkeypatch)
    assert all(result.pixels for result in _decode(paths))
    assert not first.exists()


class _Waits(threading.Event):
    """Nobody answers; notes for how long it is waited each time, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0)
        return False


def test_a_process_is_killed_after_its_time_in_short_waits_and_not_when_it_has_answered() -> None:
    # A machine that sleeps for an hour lengthens one wait, and the rest is still waited for.
    process, waits, answered = Mock(), _Waits(), threading.Event()
    _kill_after(process, 2.5, waits)
    assert waits.asked == [1.0, 1.0, 0.5]
    process.kill.assert_called_once_with()
    answered.set()
    _kill_after(other := Mock(), 2.5, answered)
    other.kill.assert_not_called()


def test_stopping_early_ends_the_processes(tmp_path: Path) -> None:
    paths = _images(tmp_path, 30)
    results = decode_files(paths, FITTING, workers=2)
    next(iter(results))
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 300
    while any("_feed" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_script_without_a_main_guard_works_and_can_be_interrupted(tmp_path: Path) -> None:
    _images(tmp_path, 400)
    script = tmp_path / "script.py"
    script.write_text(
        "import signal\n"
        "from pathlib import Path\n"
        "from glasshouse.data.fitting import Fitting\n"
        "from glasshouse.data.workers import decode_files\n"
        # Whoever starts the tests in the background has them ignore this signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"paths = sorted(Path({str(tmp_path / 'cat')!r}).iterdir()) * 500\n"
        "for number, result in enumerate(decode_files(paths, Fitting(64, 64, 'crop'))):\n"
        "    if number == 10: print('going', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=-1)
    assert process.stdout
    assert process.stdout.readline() == b"going\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors


def test_a_process_that_cannot_start_is_no_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="cannot start a process"):
        _decode(_images(tmp_path, 2))


def message(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def test_a_message_is_its_length_and_its_bytes() -> None:
    pipe = io.BytesIO()
    for data in (b"abc", b""):
        workers._send(pipe, data)
    assert pipe.getvalue() == b"\x03\0\0\0abc\0\0\0\0"
    pipe.seek(0)
    assert [workers._receive(pipe), workers._receive(pipe)] == [b"abc", b""]
    for cut_off in (b"", b"\x03\0\0", b"\x03\0\0\0ab"):
        with pytest.raises(EOFError):
            workers._receive(io.BytesIO(cut_off))


def test_one_image_is_decoded_from_its_file_or_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded("PNG")
    path = tmp_path / "x.png"
    path.write_bytes(data)
    digest, pixels, reason, header = workers._decode_one(path, None, FITTING)
    assert digest.decode() == hashlib.sha256(data).hexdigest()
    assert pixels == fit(scene(), FITTING).tobytes() and reason == b""
    assert workers._as_header(header) == Header(24, 32)
    assert workers._decode_one(tmp_path / "none.png", data, FITTING)[:2] == (digest, pixels)
    bad = workers._decode_one(path, b"", FITTING)
    assert bad[0] == hashlib.sha256(b"").hexdigest().encode() and bad[1] == bad[3] == b""
    assert bad[2] != b"" and str(path).encode() not in bad[2]

    def too_large(*_: object, **__: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(workers, "fit", too_large)
    found = workers._decode_one(path, data, FITTING)
    assert found == (digest, b"", b"decoding exceeds the memory limit", header)


def test_the_header_of_an_image_survives_the_pipe() -> None:
    values = {"height": 2, "width": 3, "oddities": ["a", "b"], "narrow": "n"}
    assert workers._as_header(json.dumps(values).encode()) == Header(2, 3, ("a", "b"), "n")
    assert workers._as_header(b"") is None


def test_a_process_answers_requests_until_the_pipe_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def decode_one(*given: object) -> tuple[bytes, ...]:
        asked.append(given)
        return b"1", b"2", b"", b"4"

    fitting = {"height": 8, "width": 9, "resize": "letterbox"}
    first = message(json.dumps(["a", False, fitting]).encode())
    second = message(json.dumps(["b", True, fitting]).encode()) + message(b"bytes")
    answers = io.BytesIO()
    monkeypatch.setattr(workers, "_decode_one", decode_one)
    monkeypatch.setattr(workers, "_bound_memory", lambda: asked.append("bound"))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(first + second)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=answers))
    workers.serve_decoding()
    expected = Fitting(8, 9, "letterbox")
    assert asked == ["bound", (Path("a"), None, expected), (Path("b"), b"bytes", expected)]
    answer = b"".join(map(message, (b"1", b"2", b"", b"4")))
    assert answers.getvalue() == message(b"ready") + answer * 2


def ask(answer: bytes, data: bytes | None, fitting: Fitting = FITTING) -> tuple[Decoded, bytes]:
    process: Any = SimpleNamespace(stdin=io.BytesIO(), stdout=io.BytesIO(answer), kill=Mock())
    result = workers._ask(process, 7, ("a\n\udcff", data), fitting, 600)
    return result, process.stdin.getvalue()


def test_a_request_is_a_line_and_the_bytes_of_an_embedded_image() -> None:
    header = {"height": 2, "width": 3, "oddities": [], "narrow": ""}
    parts = (b"ab12", b"pixels", b"", json.dumps(header).encode())
    answer = b"".join(map(message, parts))
    result, sent = ask(answer, b"bytes")
    assert result == Decoded(7, "ab12", b"pixels", "", Header(2, 3))
    pipe = io.BytesIO(sent)
    path, is_embedded, fitting = json.loads(workers._receive(pipe))
    assert (path, is_embedded) == ("a\n\udcff", True)
    assert Fitting(**{**fitting, "bars": FITTING.bars}) == FITTING
    assert workers._receive(pipe) == b"bytes" and pipe.read() == b""
    _, sent = ask(answer, None)
    pipe = io.BytesIO(sent)
    assert json.loads(workers._receive(pipe))[1] is False and pipe.read() == b""
    assert ask(answer, b"")[1].endswith(b"\0\0\0\0")
    assert ask(answer[:-1], None)[0] == Decoded(7, "", b"", "")


def feed(
    monkeypatch: pytest.MonkeyPatch, answers: list[Decoded | Exception], paths: list[ImageFile]
) -> tuple[list[object], list[Any]]:
    """What is done with processes, and what is offered, where they answer in this way."""
    done: list[object] = []
    names = iter("abcdef")

    def start() -> str:
        done.append(f"start {(name := next(names))}")
        return name

    def asked(process: str, number: int, image: object, fitting: object, timeout_s: float) -> Any:
        done.append((process, number, image))
        assert fitting == FITTING and timeout_s == 3
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers, "_ask", asked)
    monkeypatch.setattr(workers, "_end", lambda process: done.append(f"end {process}"))
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    offered: queue.Queue[Any] = queue.Queue()
    for number in [*range(len(paths)), None]:
        todo.put(number)
    workers._feed(paths, FITTING, 3, todo, offered, threading.Event())
    return done, list(offered.queue)


def test_a_process_is_kept_until_it_dies_and_a_file_is_bad_after_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, good = Decoded(0, "", b"", ""), Decoded(0, "x", b"y", "")
    bad = Decoded(1, "x", b"", "reason")
    paths: list[ImageFile] = [Path("p"), Path("q"), Path("r")]
    done, offered = feed(monkeypatch, [good, bad, dead, good], paths)
    assert done == ["start a", ("a", 0, ("p", None)), ("a", 1, ("q", None)), ("a", 2, ("r", None)),
                    "end a", "start b", ("b", 2, ("r", None)), "end b"]  # fmt: skip
    assert offered == [good, bad, good]
    done, offered = feed(monkeypatch, [dead, dead], paths[:1])
    assert done == ["start a", ("a", 0, ("p", None)), "end a",
                    "start b", ("b", 0, ("p", None)), "end b"]  # fmt: skip
    assert offered == [
        Decoded(0, "", b"", "the decoder crashed or took longer than 3 s"),
    ]
    done, offered = feed(monkeypatch, [error := ValueError("x")], paths)
    assert offered == [error] and done[-1] == "end a"


def test_an_image_within_a_file_is_sent_and_one_that_cannot_be_read_is_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x.tar").write_bytes(b"..image..")
    lost = TarMember(tmp_path / "no.tar", "y.png", 0, 1)
    member = TarMember(tmp_path / "x.tar", "y.png", 2, 5)
    good = Decoded(1, "x", b"y", "")
    done, offered = feed(monkeypatch, [good], [lost, member])
    assert done == ["start a", ("a", 1, (str(member), b"image")), "end a"]
    with pytest.raises(BadImage) as found:
        lost.read()
    assert offered == [Decoded(0, "", b"", found.value.reason), good]
    assert feed(monkeypatch, [], [lost])[0] == [], "no process is started for nothing"


def test_nothing_is_decoded_or_offered_once_nobody_reads() -> None:
    stop = threading.Event()
    full: queue.Queue[Any] = queue.Queue(maxsize=1)
    workers._offer(full, Decoded(0, "", b"", ""), stop)
    assert full.qsize() == 1
    stop.set()
    workers._offer(full, Decoded(1, "", b"", ""), stop)
    assert full.get().position == 0 and full.empty()
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    todo.put(0)
    workers._feed([Path("x")], FITTING, 3, todo, full, stop)
    assert full.empty() and todo.empty()
    with pytest.raises(KeyError), workers._stopping() as stop:
        assert not stop.is_set()
        raise KeyError
    assert stop.is_set()


@pytest.mark.parametrize(
    ("files", "asked", "count"), [(3, None, 2), (3, 5, 3), (9, 5, 5), (9, 1, 1), (1, None, 1)]
)
def test_there_are_as_many_threads_as_files_need_or_processors_are(
    monkeypatch: pytest.MonkeyPatch, files: int, asked: int | None, count: int
) -> None:
    seen: list[Any] = []

    def fed(paths: Any, fitting: Any, timeout_s: float, todo: Any, done: Any, stop: Any) -> None:
        seen.append((fitting, timeout_s, done.maxsize))
        while (number := todo.get()) is not None:
            done.put(Decoded(number, "", b"", ""))

    monkeypatch.setattr(workers, "_feed", fed)
    monkeypatch.setattr(workers, "_processors", lambda: 2)
    paths = [Path(str(n)) for n in range(files)]
    found = list(decode_files(paths, FITTING, workers=asked))
    assert sorted(result.position for result in found) == list(range(files))
    deadline = time.monotonic() + 60
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert seen == [(FITTING, 30.0, 4 * count)] * count
    assert list(decode_files([], FITTING)) == []


def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7 + process}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert workers._processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert workers._processors() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workers._processors() == 1


def test_the_memory_of_a_process_is_bounded_where_that_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource")
    limits = Mock()
    monkeypatch.setattr(resource, "setrlimit", limits)
    workers._bound_memory()
    bound = 6 * 1024**3
    limits.assert_called_once_with(resource.RLIMIT_AS, (bound, bound))
    for error in (ValueError, OSError):
        limits.side_effect = error
        workers._bound_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    workers._bound_memory()


def test_a_process_starts_apart_with_one_thread_and_is_ready_when_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Mock(stdout=io.BytesIO(message(b"ready")))
    started = Mock(return_value=process)
    monkeypatch.setattr(subprocess, "Popen", started)
    assert workers._start() is process and process.stdout.read() == b""
    process.kill.assert_not_called()
    ((command,), options) = started.call_args
    code = "from glasshouse.data.workers import serve_decoding as serve; serve()"
    assert command == [sys.executable, "-c", code]
    assert options["env"]["OPENBLAS_NUM_THREADS"] == "1" and "PYTHONPATH" in options["env"]
    assert options["start_new_session"] is True
    pipes = [options[name] for name in ("stdin", "stdout", "stderr")]
    assert pipes == [subprocess.PIPE, subprocess.PIPE, subprocess.DEVNULL]
    process.stdout, process.returncode = io.BytesIO(), 9
    with pytest.raises(DataError, match=r"decode images: .* ended with 9$"):
        workers._start()
    process.kill.assert_called_once_with()


def test_an_ended_process_is_waited_for_and_its_pipes_are_closed() -> None:
    broken = Mock()
    broken.close.side_effect = BrokenPipeError
    process = Mock(stdin=broken, stdout=io.BytesIO())
    workers._end(process)
    assert [call[0] for call in process.method_calls[:2]] == ["kill", "wait"]
    broken.close.assert_called_once_with()
    assert process.stdout.closed
    workers._end(Mock(stdin=None, stdout=None))
