"""The verdicts of bench/: a claim holds or fails only where the rounds agree about it."""

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contest", ROOT / "bench" / "contest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("rounds", "bound", "at_least", "verdict"),
    [
        ([2.29, 2.27, 2.32, 2.30, 2.31], 2.2, True, "holds"),
        ([2.29, 2.27, 2.32, 2.30, 2.31], 2.2, False, "FAILS"),
        ([2.10, 2.15, 2.12, 2.19, 2.11], 2.2, True, "FAILS"),
        ([2.10, 2.15, 2.12, 2.19, 2.11], 2.2, False, "holds"),
        ([2.29, 2.15, 2.32, 2.30, 2.31], 2.2, True, "open"),
        ([2.29, 2.15, 2.32, 2.30, 2.31], 2.2, False, "open"),
        ([110.0, 3.6, 108.0, 109.0, 111.0], 50, True, "open"),
        ([-0.2, 0.1, 0.0, 0.05, 0.2], 0.7, False, "holds"),
        ([2.2] * 5, 2.2, True, "holds"),
        ([2.2] * 5, 2.2, False, "holds"),
    ],
)
def test_a_verdict_is_given_only_where_the_rounds_agree(
    contest: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    rounds: list[float],
    bound: float,
    at_least: bool,
    verdict: str,
) -> None:
    file = tmp_path / "figures"
    monkeypatch.setenv("GLASSHOUSE_FIGURES", str(file))
    assert contest.judge_rounds("claim", rounds, bound, at_least=at_least) == (verdict == "holds")
    assert json.loads(file.read_text())["verdict"] == verdict


def test_rounds_that_disagree_have_no_figure(
    contest: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "figures"
    monkeypatch.setenv("GLASSHOUSE_FIGURES", str(file))
    contest.judge_rounds("steady", [2.3, 2.2, 2.4, 2.3, 2.3], 2.0)
    contest.judge_rounds("disturbed", [110.0, 3.6, 108.0, 109.0, 111.0], 3.0)
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["median"] for each in kept] == [2.3, None]
    assert [each["verdict"] for each in kept] == ["holds", "holds"]


@pytest.mark.parametrize("count", [5, 7, 8, 12, 15])
def test_the_interval_of_a_median_holds_it_nine_times_in_ten(
    contest: ModuleType, count: int
) -> None:
    draw = random.Random(count)
    held = 0
    for _ in range(2000):
        # Skewed, as times are: the median of an exponential distribution is the logarithm of two.
        low, high = contest.interval([draw.expovariate(1) for _ in range(count)])
        held += low <= 0.6931 <= high
    assert held / 2000 >= 0.885
    shorter = contest.interval(sorted(range(count)))
    assert (shorter[0] + shorter[1]) / 2 == (count - 1) / 2


def test_each_round_is_compared_with_the_best_that_came_with_it(contest: ModuleType) -> None:
    assert contest.ratios([6.0, 8.0], [3.0, 2.0], [2.0, 4.0]) == [2.0, 2.0]
