"""What a report says of the learning rate is what training followed."""

from pathlib import Path

import pytest

from glasshouse.recipe import load_recipe
from glasshouse.runs import folder as runs
from glasshouse.storage import write_json
from glasshouse.training.schedules import learning_rate
from glasshouse.workflow.train import reporting
from tests.run_files import environment, epoch_line, write_lines


def make_run(folder: Path, epochs: int, *overrides: str) -> runs.Run:
    write_lines(folder / runs.METRICS, [epoch_line(n) for n in range(1, epochs + 1)])
    recipe = load_recipe("small-residual", ["train.epochs=4", *overrides])
    return runs.Run(folder, recipe, environment())


def test_learning_rates_follow_the_schedule_to_the_end_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    rates = reporting._rates(run)
    assert (rates[0][0], rates[-1][0]) == (0.0, 2.0)
    assert all(rate == learning_rate(run.recipe.train, time) for time, rate in rates)
    assert max(rate for _, rate in rates) == pytest.approx(3e-3, rel=1e-4)


def test_a_found_learning_rate_and_schedule_replace_auto(tmp_path: Path) -> None:
    found = {
        "lr": 0.5,
        "schedule": {"type": "triangular", "base": 0.2},
        "verdict": "",
        "seconds": 9,
        "curve": {},
    }
    write_json(tmp_path / runs.FINDER, found)
    run = make_run(tmp_path, 4, "train.lr=auto", "train.schedule={type='triangular'}")
    rates = [rate for _, rate in reporting._rates(run)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert (
        "peak 0.5, found by a range test in 9.0 s: its maximum"
        in (reporting._cost(run)["learning rate"])
    )


def test_operations_are_shown_where_they_were_counted(tmp_path: Path) -> None:
    """A run from before they were has none, and neither has one whose cost.json is gone."""
    run = make_run(tmp_path, 2)
    assert not {"operations", "peak memory"} & reporting._cost(run).keys()
    write_json(tmp_path / runs.COST, {"peak_memory_bytes": 2**30})
    cost = reporting._cost(run)
    assert cost["peak memory"] == "1,024 MiB" and "operations" not in cost
    write_json(tmp_path / runs.COST, {"peak_memory_bytes": 2**30, "training_flop": 324 * 10**12})
    reporting.write_cost(tmp_path, 1)  # of a process that did not train
    assert reporting._cost(run)["operations"].startswith("324 TFLOP")


def test_heads_on_frozen_features_have_no_learning_rate(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0, "train.lr=auto")
    assert reporting._rates(run) == []
    assert not {"learning rate", "training", "speed"} & reporting._cost(run).keys()
