"""Plans are pure; what the machine can do is measured for a moment only."""

import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe, parse_recipe, to_toml
from glasshouse.runs.folder import read_run
from glasshouse.training.pace import Pace
from glasshouse.workflow.train import time_budget as budgets, time_plan
from glasshouse.workflow.train.experiment import TrainRequest, open_experiment
from glasshouse.workflow.train.reporting import _budget
from glasshouse.workflow.train.time_budget import fit_to_minutes, fitted_recipe
from glasshouse.workflow.train.time_plan import (
    ENOUGH_EPOCHS,
    MOST_EPOCHS,
    TimePlan,
    Work,
    choose_plan,
    describe_budget,
    epoch_seconds,
    epochs_in,
    fixed_seconds,
)

WORK = Work(train=45_000, validation=5_000, test=10_000, finder=0, seconds=5.0)
# As measured, more or less: half the width is two to three times as fast.
PACES = tuple(
    Pace(width, 1000 / width**1.5, 5000 / width, 3000 / width, 0.1)
    for width in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
)


def test_more_time_buys_width_and_epochs() -> None:
    plans = [choose_plan(PACES, seconds, WORK, 10) for seconds in (60, 180, 600, 3600)]
    widths = [plan.width for plan in plans]
    assert widths == sorted(widths)
    assert widths[0] < 1 <= widths[-1]
    assert widths[-1] == 2
    assert plans[-1].epochs >= 10


@given(st.floats(30, 20_000), st.integers(1, 60))
def test_every_plan_fits_and_wastes_little(seconds: float, recipe_epochs: int) -> None:
    plan = choose_plan(PACES, seconds, WORK, recipe_epochs)
    assert plan.seconds <= seconds
    assert plan.epochs == MOST_EPOCHS or plan.seconds > 0.7 * seconds
    pace = next(pace for pace in PACES if pace.width == plan.width)
    assert plan.images == WORK.train or plan.epochs <= epochs_in(pace, seconds, WORK) + 1


def test_the_widest_network_with_enough_epochs_is_chosen() -> None:
    own = next(pace for pace in PACES if pace.width == 1)
    seconds = next(s for s in range(60, 3600) if epochs_in(own, s, WORK) >= ENOUGH_EPOCHS)
    assert choose_plan(PACES, seconds, WORK, 10).width == 1.0
    assert choose_plan(PACES, seconds - 1, WORK, 10).width == 0.75
    wider = next(pace for pace in PACES if pace.width == 1.5)
    seconds = next(s for s in range(60, 9000) if epochs_in(wider, s, WORK) >= 10)
    assert choose_plan(PACES, seconds, WORK, 10).width == 1.5
    assert choose_plan(PACES, seconds - 1, WORK, 10).width == 1.0


def test_less_than_an_epoch_is_one_epoch_of_fewer_images() -> None:
    slow = (Pace(1.0, 500, 2000, 1500, 0.1),)
    plan = choose_plan(slow, 60, WORK, 10)
    assert plan.epochs == 1
    assert 15_000 < plan.images < 25_000


def test_snapshots_leave_less_time_for_epochs() -> None:
    plain = (Pace(1.0, 1000, 5000, 3000, 0.1),)
    watched = (Pace(1.0, 1000, 5000, 3000, 0.1, explaining=20.0),)
    without, with_them = choose_plan(plain, 600, WORK, 10), choose_plan(watched, 600, WORK, 10)
    assert with_them.epochs < without.epochs
    assert with_them.seconds <= 600
    # One after each epoch, and one of the untrained net.
    assert with_them.seconds == pytest.approx(
        20 * (with_them.epochs + 1) + fixed_seconds(plain[0], WORK)
        + with_them.epochs * epoch_seconds(plain[0], with_them.images, WORK), abs=0.1
    )  # fmt: skip


def test_the_cost_of_snapshots_is_measured_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "_LONGEST", 0.1)
    watched = replace(request(tmp_path / "run"), snapshots=4)
    _, budget = fit_to_minutes(watched, 600, started=time.monotonic())
    assert all(pace.explaining > 0 for pace in budget.paces)
    assert list(tmp_path.iterdir()) == []
    plain, _ = budgets._measuring(request(tmp_path / "run"), 600, None)
    assert plain(1.0).explaining == 0  # type: ignore[union-attr]


def test_a_budget_that_is_too_short_says_what_is_needed() -> None:
    with pytest.raises(
        UsageError, match=r"too short.*the shortest run takes 18 s. Give 1 more minutes"
    ):
        choose_plan((Pace(1.0, 500, 2000, 1500, 0.1),), 10, WORK, 10)
    with pytest.raises(UsageError, match="above 0"):
        fit_to_minutes(request(Path("run")), -1, started=0.0)


def test_a_plan_becomes_a_recipe_that_is_written_and_read_back() -> None:
    recipe = load_recipe("tutorial-wide-schedule")
    fitted = fitted_recipe(recipe, TimePlan(0.5, 5, 30_000, 100.0), 2.5, whole=45_000)
    assert fitted.name == "tutorial-wide-schedule-2.5min"
    assert (fitted.train.epochs, fitted.data.train_limit) == (5, 30_000)
    assert fitted.train.schedule.type == "per_epoch"
    assert fitted.train.schedule.rates == (1e-4, 1e-4, 1e-4, 5e-5, 5e-5)
    assert fitted.model.layers is not None
    filters = [layer.filters for layer in fitted.model.layers if layer.type == "conv"]
    assert filters == [16, 16, 32, 64]
    assert parse_recipe(tomllib.loads(to_toml(fitted))) == fitted


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.6, 0.8, 1.2, 1.7, 9.0])
def test_a_binary_search_finds_the_widest_network_that_is_fast_enough(
    limit: float,
) -> None:
    by_width = {pace.width: pace for pace in PACES}
    measured = list(budgets._paces(by_width.get, lambda pace: pace.width <= limit))
    assert len(measured) <= 3
    quick = [width for width in by_width if width <= limit]
    found = [pace.width for pace in measured if pace.width <= limit]
    assert max(found, default=None) == max(quick, default=None)
    assert measured[0].width == 1.0


def test_a_network_of_fixed_width_is_measured_once() -> None:
    only = {1.0: PACES[3]}
    assert list(budgets._paces(only.get, lambda pace: False)) == [PACES[3]]


def request(out: Path) -> TrainRequest:
    small = ["data.train_limit=96", "train.precision=fp32", "train.device=cpu"]
    return TrainRequest("digits", load_recipe("small-cnn", small), out)


def test_several_runs_share_the_time_and_what_has_passed_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_width = {pace.width: pace for pace in PACES}
    monkeypatch.setattr(budgets, "_measuring", lambda *parts: (by_width.get, WORK))
    monkeypatch.setattr(budgets, "report_seconds", lambda: 0.0)

    def planned(minutes: float, *, runs: int, ago: float = 0.0) -> TimePlan:
        started = time.monotonic() - ago
        _, budget = fit_to_minutes(request(tmp_path), minutes, started=started, runs=runs)
        assert (budget.minutes, budget.runs) == (minutes, runs)
        return budget.plan

    for minutes, runs, ago in ((60, 3, 0), (40, 1, 1200), (80, 3, 1200)):
        plan = planned(minutes, runs=runs, ago=ago)
        assert 0.7 * 1200 < plan.seconds <= 1200, (minutes, runs, ago)
        assert plan.width == planned(20, runs=1).width
    assert planned(60, runs=1).seconds > 1.5 * 1200


def test_measurements_and_choice_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_plan, "MOST_EPOCHS", 3)
    monkeypatch.setattr(budgets, "_LONGEST", 0.2)
    fitted, budget = fit_to_minutes(request(tmp_path / "run"), 600, started=time.monotonic())
    # This is enough for the widest net, and three epochs are said to be the most.
    assert [pace.width for pace in budget.paces] == [1.0, 1.5, 2.0]
    assert all(pace.training > 1 and pace.saving > 0 for pace in budget.paces)
    assert (budget.plan.width, budget.plan.epochs, budget.plan.images) == (2.0, 3, 96)
    open_experiment(fitted)
    run = read_run(tmp_path / "run")
    assert run.recipe == fitted.recipe
    assert run.recipe.train.schedule.type == "cosine"
    assert run.environment["budget"]["plan"]["epochs"] == 3
    (text,) = _budget(run.environment).values()
    assert text == describe_budget(budget)
    assert "3 epochs of all 96 images" in text


def test_a_tiny_set_gets_whole_epochs_where_one_fits() -> None:
    small, slow = replace(WORK, train=100, validation=10, test=10), (Pace(1.0, 50, 500, 500, 0.1),)
    (pace,) = slow
    seconds = next(s for s in range(1, 900) if epochs_in(pace, s, small) >= 1)
    assert choose_plan(slow, seconds, small, 10).images == 100
