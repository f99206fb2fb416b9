import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from glasshouse.data.fitting import Fitting
from glasshouse.data.workers import Decoded, _kill_after, decode_files
from glasshouse.errors import DataError
from glasshouse.storage import sha256_of_file
from tests.data.image_files import decoded, write_folder

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
