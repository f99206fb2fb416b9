import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import typer

from glasshouse.cli import processes
from glasshouse.errors import (
    GlasshouseError,
    GlasshouseWarning,
    Interrupted,
    LostProcess,
    ProcessError,
    UsageError,
)
from glasshouse.recipe import load_recipe
from glasshouse.training import process_group
from glasshouse.workflow.train import followers


class Alone(process_group.ProcessGroup):
    """The first of two processes, of which the other has ended."""

    def told(self, value: object) -> object:  # type: ignore[override]
        raise ProcessError("another process of this training has ended")


@pytest.fixture
def left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def joined() -> Iterator[process_group.ProcessGroup]:
        yield Alone(0, 2)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(process_group, "joined", joined)


@pytest.mark.usefixtures("left_alone")
def test_a_process_that_leaves_after_the_work_is_not_missed() -> None:
    done = []
    with processes.as_first():
        done.append("the run")
    assert done == ["the run"]


@pytest.mark.usefixtures("left_alone")
def test_a_process_that_leaves_during_the_work_is_an_error() -> None:
    with pytest.raises(ProcessError), processes.as_first():
        raise ProcessError("another process of this training has ended")


def test_a_first_process_that_was_killed_is_reported_for_it() -> None:
    killed, left = SimpleNamespace(exitcode=-9), SimpleNamespace(exitcode=3)
    with pytest.raises(
        LostProcess, match=r"killed \(SIGKILL\), perhaps .* memory ran out\. Resume"
    ):
        processes._require_unkilled({1: left, 0: killed})
    with pytest.raises(LostProcess, match=r"killed \(SIGSEGV\)\. Resume"):
        processes._require_unkilled({0: SimpleNamespace(exitcode=-11)})


def test_what_another_process_has_said_is_not_blamed_on_the_launcher() -> None:
    refused = {0: SimpleNamespace(exitcode=-9), 1: SimpleNamespace(exitcode=2)}
    processes._require_unkilled(refused)
    assert processes._exit_code(refused) == 2


def test_a_signal_without_a_name_has_its_number() -> None:
    with pytest.raises(LostProcess, match=r"killed \(signal 40\)\. Resume"):
        processes._require_unkilled({0: SimpleNamespace(exitcode=-40)})


def test_a_first_process_that_ended_by_itself_has_said_why() -> None:
    processes._require_unkilled({0: SimpleNamespace(exitcode=3)})
    processes._require_unkilled({0: SimpleNamespace(exitcode=-15), 1: SimpleNamespace(exitcode=3)})
    processes._require_unkilled({1: SimpleNamespace(exitcode=-9)})


@pytest.mark.parametrize(
    ("error", "local_rank", "is_said"),
    [
        (LostProcess("another process has ended"), "0", True),
        (LostProcess("another process has ended"), "1", False),
        (UsageError("no such folder here"), "1", True),
        (Interrupted("stopped", 15), "0", False),
    ],
)
def test_what_all_processes_notice_is_said_once_on_each_machine(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: GlasshouseError,
    local_rank: str,
    is_said: bool,
) -> None:
    @contextmanager
    def joined() -> Iterator[process_group.ProcessGroup]:
        yield process_group.ProcessGroup(2, 4)

    def fail(*others: object) -> None:
        raise error

    monkeypatch.setattr(process_group, "joined", joined)
    monkeypatch.setattr(followers, "follow_runs", fail)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    with pytest.raises(typer.Exit) as ended:
        processes._follow()
    assert ended.value.exit_code == error.exit_code
    assert (str(error) in capsys.readouterr().err) == is_said


def test_a_process_whose_gpu_has_no_memory_left_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def joined() -> Iterator[process_group.ProcessGroup]:
        yield process_group.ProcessGroup(2, 4)

    def fill(*others: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(process_group, "joined", joined)
    monkeypatch.setattr(followers, "follow_runs", fill)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(typer.Exit) as ended:
        processes._follow()
    assert ended.value.exit_code == 2
    errors = capsys.readouterr().err
    assert "glasshouse: process 0 on " in errors and "the GPU's memory is full: " in errors


def test_warnings_of_other_processes_end_where_the_first_one_has_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def joined() -> Iterator[process_group.ProcessGroup]:
        warnings.warn("waiting for the others", GlasshouseWarning, stacklevel=1)
        yield process_group.ProcessGroup(2, 4)

    def follow(*others: object) -> None:
        warnings.warn("few images", GlasshouseWarning, stacklevel=1)

    monkeypatch.setattr(process_group, "joined", joined)
    monkeypatch.setattr(followers, "follow_runs", follow)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        processes._follow()
    assert [str(each.message) for each in seen] == ["waiting for the others"]


@pytest.mark.parametrize(
    ("device", "size", "is_refused"),
    [("auto", 2, True), ("cpu", 2, False), ("auto", 1, False)],
)
def test_processes_cannot_share_the_gpu_of_a_mac(
    monkeypatch: pytest.MonkeyPatch, device: str, size: int, is_refused: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", str(size))
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    recipe = load_recipe("small-cnn", ["train.shards=2", f"train.device={device}"])
    if is_refused:
        with pytest.raises(UsageError, match="MPS, the only GPU of a Mac: add --device cpu"):
            processes.require_shareable(recipe, None)
    else:
        processes.require_shareable(recipe, None)
    # Which devices a cluster has is known to its machines.
    processes.require_shareable(recipe, None, processes=2)
