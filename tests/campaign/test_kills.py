"""`kill -9` at 200 random moments of every way to train: resumed, each ends with the same bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.forked import Job, Outcome, Server, moments
from tests.campaign.inputs import FAST, FEATURES, TRAIN, run_bytes, stray_files
from tests.journeys.test_train import result_bytes

TRIALS = 4

# What is trained, and in how many of the 200 kills.
WAYS: dict[str, tuple[list[str], int]] = {
    "plain": (TRAIN, 30),
    "average and best": ([*TRAIN, "--set", "train.ema_decay=0.9", "--set", "train.keep=best"], 30),
    "snapshots": ([*TRAIN, "--snapshots", "2"], 25),
    "folder and cache": (["train", "photos", *TRAIN[2:]], 30),
    "features": (["train", "photos", *FEATURES, *FAST], 25),
    "fine-tuning": (
        ["train", "photos", *FEATURES[2:], "--recipe", "transfer-full", "--epochs", "2", *FAST],
        25,
    ),
    "ladder": (
        ["ladder", "digits", "--image-size", "12", "--epochs", "1", "--seeds", "1", *FAST], 20
    ),
    "tune": (
        ["tune", "digits", *TRAIN[2:], "--search", "train.lr=1e-4..1e-2:log", "--no-prune",
         "--trials", str(TRIALS)],
        15,
    ),
}  # fmt: skip


def ladder_bytes(folder: Path) -> object:
    rungs = sorted(path.parent for path in folder.glob("**/evaluation.json"))
    return {str(rung.relative_to(folder)): result_bytes(rung) for rung in rungs}


def finished_trials(folder: Path) -> object:
    """The values of the finished trials by what was tried; killed ones are tried again."""
    trials: list[dict[str, Any]] = json.loads((folder / "trials.json").read_text())["trials"]
    done = [trial for trial in trials if trial["state"] == "complete"]
    return {json.dumps(trial["values"], sort_keys=True): trial["value"] for trial in done}


RESULTS: dict[str, Callable[[Path], object]] = {"ladder": ladder_bytes, "tune": finished_trials}


def attempt(forks: Server, work: Path, way: str, out: str, kill_after: float | None) -> Outcome:
    arguments = [*WAYS[way][0], "--out", out]
    if arguments[0] == "train" and (work / out / "recipe.toml").is_file():
        arguments.append("--resume")
    return forks.run(Job(arguments, str(work), kill_after=kill_after))


def kill_and_compare(forks: Server, work: Path, way: str, count: int) -> str:
    """Kill a run ``count`` times; a run that ended before its kill is followed by a new one."""
    whole = attempt(forks, work, way, "whole", None)
    assert whole.code == 0, whole.errors
    result = RESULTS.get(way, run_bytes)
    expected = result(work / "whole")
    kills, runs, out = 0, 0, "killed-0"
    for moment in moments(whole.seconds, seed=0):
        done = attempt(forks, work, way, out, moment)
        assert "Traceback" not in done.errors, done.errors
        if done.code == -9:
            kills += 1
        if done.code != -9 or kills == count:
            last = attempt(forks, work, way, out, None) if done.code == -9 else done
            assert last.code == 0, last.errors
            assert result(work / out) == expected, f"{way}: other bytes after {kills} kills"
            assert stray_files(work / out) == []
            runs += 1
            out = f"killed-{runs}"
        if kills == count:
            break
    assert stray_files(work / "cache") == []
    return f"{way}: {kills} kills, {runs} runs with equal bytes"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_random_moments_every_way_to_train_ends_with_the_same_bytes(
    way: str, work: Path, forks: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    words = kill_and_compare(forks, work, way, WAYS[way][1])
    with capsys.disabled():
        print(f"\n  {words}")
