"""The verdicts of bench/: a claim holds or fails only where the rounds agree about it."""

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from glasshouse.recipe import load_recipe, to_toml
from tests.run_files import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contest", ROOT / "bench" / "contest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module


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


def test_what_is_not_installed_is_named_in_a_sentence(contest: ModuleType) -> None:
    contest.require("numpy", "a package")
    contest.require("python3", "a program")
    with pytest.raises(SystemExit) as ended:
        contest.require("no-such-program", "apt install it")
    sentence = "not run: this needs no-such-program, which is not installed (apt install it)"
    assert str(ended.value) == sentence


HALF_WAY = """
import json, os
with open(os.environ["GLASSHOUSE_FIGURES"], "a") as file:
    figure = {"claim": "first", "median": 2.0, "low": 1.0, "high": 3.0, "verdict": "VERDICT"}
    file.write(json.dumps(figure) + "\\n")
"""


@pytest.mark.parametrize(
    ("rows", "verdict", "end", "words"),
    [
        (["first"], "FAILS", "raise SystemExit(1)", []),
        (["first"], "holds", "", []),
        (["first"], "holds", "1 / 0", ["exit code 1", "ZeroDivisionError"]),
        (["first", "second"], "FAILS", "1 / 0",
         ["half_way ended with exit code 1", '- row of second: "second"', "ZeroDivisionError"]),
        # As where a claim was renamed.
        (["second"], "holds", "", ["exit code 0", '"second"', 'Claims that it judged: "first"']),
    ],
)  # fmt: skip
def test_rows_of_a_script_that_stops_half_way_are_named_as_missing(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    rows: list[str], verdict: str, end: str, words: list[str],
) -> None:  # fmt: skip
    table = script("speed_table")
    (tmp_path / "half_way.py").write_text(HALF_WAY.replace("VERDICT", verdict) + end)
    monkeypatch.setattr(table, "HERE", tmp_path)
    made = [table.Row(f"row of {claim}", claim) for claim in rows]
    monkeypatch.setattr(table, "SCRIPTS", {"half_way": made})
    figures, problem = table.run("half_way")
    assert list(figures) == ["first"]
    assert bool(problem) == bool(words)
    assert all(word in problem for word in words)


def test_a_row_about_time_says_how_many_times_as_fast(
    script: Callable[[str], ModuleType],
) -> None:
    table, found = script("speed_table"), {"median": 0.5, "low": 0.4, "high": 0.8}
    assert table.words(table.Row("a", "b", is_time=True), found) == "2 times as fast (1.25 to 2.5)"
    assert table.words(table.Row("a", "b"), found) == "0.5 times as fast (0.4 to 0.8)"


def test_a_run_of_another_recipe_or_processor_is_not_used_again(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    to_accuracy, recipe = script("to_accuracy"), load_recipe("fast")
    monkeypatch.setattr(to_accuracy, "processor", lambda: "a")
    to_accuracy.require_alike(tmp_path, recipe)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    (tmp_path / "environment.json").write_text(json.dumps(environment()))
    to_accuracy.require_alike(tmp_path, recipe.model_copy(update={"description": "another"}))
    with pytest.raises(SystemExit, match="another recipe than fast is now"):
        to_accuracy.require_alike(tmp_path, load_recipe("fast", ["train.lr=1"]))
    monkeypatch.setattr(to_accuracy, "processor", lambda: "b")
    with pytest.raises(SystemExit, match="trained on a, and this machine has b"):
        to_accuracy.require_alike(tmp_path, recipe)
