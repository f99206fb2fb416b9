"""Code in the current folder is never run: a downloaded data set may hold any file."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glasshouse.child_python import child_environment, safe_children
from glasshouse.data.fitting import Fitting
from glasshouse.data.workers import decode_files
from glasshouse.runs.background import start_training
from tests.data.image_files import encoded
from tests.journeys.command import COMMAND, own_environment

# Modules of the standard library that a start of the command imports sooner or later.
NAMES = ("queue", "struct", "inspect", "ast", "tomllib", "json", "string", "typing", "lazy_loader")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose modules leave a file when they are run."""
    for name in NAMES:
        code = f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_decoding_processes_ignore_the_current_folder(trap: Path) -> None:
    (trap / "a.png").write_bytes(encoded("PNG"))
    (found,) = decode_files([trap / "a.png"], Fitting(8, 8, "crop"))
    assert found.pixels
    assert not (trap / "executed").exists()


def test_the_command_ignores_the_current_folder(trap: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "recipes"], cwd=trap, env=own_environment(trap), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (trap / "executed").exists()


def test_trainings_in_the_background_ignore_the_current_folder(trap: Path) -> None:
    launch = start_training(trap / "runs", "a", "no-such-source", "small-cnn")
    while launch.is_running:
        time.sleep(0.05)
    log = (trap / "runs" / ".background" / "a.log").read_text()
    assert "unknown source 'no-such-source'" in log
    assert not (trap / "executed").exists()


def test_processes_that_others_start_are_protected_for_that_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with safe_children():
        asked = subprocess.run(
            [sys.executable, "-c", "import sys; print(sys.flags.safe_path)"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert asked.stdout.strip() == "True"
    assert "PYTHONSAFEPATH" not in os.environ


def test_an_empty_entry_of_the_search_path_does_not_stand_for_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/somewhere", ""]))
    entries = child_environment()["PYTHONPATH"].split(os.pathsep)
    assert "" not in entries and "/somewhere" in entries
