"""Options that do not go together with a cluster, and who works without one."""

import importlib.util
from pathlib import Path

import pytest

from glasshouse.cli.on_cluster import crew_on, runner_on
from glasshouse.cli.train import _is_done_elsewhere
from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.tune.crew import ProcessCrew


@pytest.mark.parametrize(
    ("seeds", "minutes", "processes", "message"),
    [
        (None, None, None, "add --seeds N"),
        (3, 1.5, None, "--minutes measures this machine: use it without --on"),
        (3, None, 2, "use --seeds or --processes, not both"),
    ],
)
def test_train_refuses_what_a_cluster_cannot_do(
    seeds: int | None,
    minutes: float | None,
    processes: int | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match=message):
        _is_done_elsewhere("ray", seeds, minutes, processes)
    assert not _is_done_elsewhere("ray", 3, None, None)


def test_an_address_is_checked_before_anything_else() -> None:
    with pytest.raises(UsageError, match="expected ray"):
        _is_done_elsewhere("host", None, None, None)


@pytest.mark.parametrize(("workers", "size"), [(None, 1), (3, 3)])
def test_without_a_cluster_processes_of_this_machine_search(
    workers: int | None, size: int, tmp_path: Path
) -> None:
    with crew_on(None, tmp_path / "out", workers, "cpu") as crew:
        assert crew == ProcessCrew(size)


def test_without_a_cluster_runs_are_trained_here(tmp_path: Path) -> None:
    from glasshouse.cli.experiments import run_to_the_end

    request = TrainRequest("digits", load_recipe("small-cnn"), tmp_path)
    with runner_on(None, [request]) as run:
        assert run is run_to_the_end
