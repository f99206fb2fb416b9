"""What the command says of errors that no part of it foresaw."""

import errno
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from glasshouse.cli.main import _ALSO_CALLED, app, main
from tests.journeys.command import glasshouse_here


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/disk/x"),
            3,
            "cannot use /disk/x: Input/output",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device. Check"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "cannot use the path /x: Permission"),
    ],
)
def test_a_disk_that_fails_is_a_named_error(
    error: OSError,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "is_dir", fail)
    got, _, errors = glasshouse_here(["runs", "somewhere"], capsys)
    assert (got, words in errors) == (code, True), errors


def test_an_error_that_is_none_of_the_system_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("a library's own words")

    monkeypatch.setattr(Path, "is_dir", fail)
    monkeypatch.setattr("sys.argv", ["glasshouse", "runs", "somewhere"])
    with pytest.raises(OSError, match="own words"):
        main()


def test_a_command_is_found_by_what_other_tools_call_it() -> None:
    names = {
        command.name or getattr(command.callback, "__name__", "")
        for command in app.registered_commands
    }
    assert set(_ALSO_CALLED.values()) <= names and not names & set(_ALSO_CALLED)
    for given, meant in (("workbench", "ui"), ("Fine_tune", "train")):
        result = CliRunner().invoke(app, [given])
        assert result.exit_code == 2 and f"Did you mean 'glasshouse {meant}'?" in result.output
    assert "Did you mean 'train'" in CliRunner().invoke(app, ["trian"]).output


def test_a_gpu_whose_memory_is_full_is_a_named_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Path, "is_dir", fail)
    code, _, errors = glasshouse_here(["runs", "somewhere"], capsys)
    assert (code, errors) == (
        2,
        "glasshouse: the GPU's memory is full: end other programs that use it, or use "
        "--device cpu\n",
    )
