"""500 damaged runs through every command that reads one: named errors, no hang, bounded memory."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.forked import Job, Server
from tests.campaign.inputs import FAST
from tests.campaign.mutations import damaged
from tests.campaign.test_damaged_runs import READERS

# 500 in all; a hang is what takes several times as long as the slowest sound command.
DAMAGES = 500
LONGEST_S, MOST_MIB = 120.0, 1024.0
TRAIN = [
    "train", "digits", "--recipe", "small-cnn", "--epochs", "1", "--set", "data.train_limit=96",
    *FAST, "--out",
]  # fmt: skip
PHOTO = "photos/north-west/000.png"
COMMANDS: dict[str, list[str]] = {
    "predict": ["predict", "run", PHOTO],
    "similar": ["predict", "run", PHOTO, "--similar"],
    "unknown": ["predict", "run", PHOTO, "--unknown"],
    "explain": ["explain", "run", PHOTO, "--out", "why", "--method", "grad-cam"],
    "evaluate": ["evaluate", "run"],
    "compare": ["compare", "run", "sound"],
    "groups": ["groups", "run"],
    "map": ["map", "run"],
    "shortcuts": ["shortcuts", "run", "--images", "20"],
    "summary": ["summary", "run"],
    "runs": ["runs", "."],
    "export": ["export", "run", "--out", "run.onnx"],
    "reproduce": ["reproduce", "run"],
    "resume": [*TRAIN, "run", "--resume"],
    "recipe": ["train", "digits", "--recipe", "run/recipe.toml", "--out", "again"],
}


def run_damaged(forks: Server, work: Path, name: str, seed: int) -> Counter[int]:
    """Damage one file of a run and give it to every command; returns how often each code came."""
    data = (work / "sound" / name).read_bytes()
    wrong = damaged(name, data, random.Random(f"commands {name} {seed}"))
    codes: Counter[int] = Counter()
    for command, arguments in COMMANDS.items():
        for folder in ("run", "again", "why"):
            shutil.rmtree(work / folder, ignore_errors=True)
        shutil.copytree(work / "sound", work / "run")
        (work / "run" / name).write_bytes(wrong)
        done = forks.run(Job(arguments, str(work), kill_after=LONGEST_S))
        case = f"{command}, {name}, seed {seed}: exit code {done.code}\n{done.errors[-3000:]}"
        assert "Traceback" not in done.errors, case
        assert 0 <= done.code <= 4, case
        # A run whose recipe was changed trains well, and to other results, which reproduce reports.
        differs = command == "reproduce" and done.code == 1 and "DIFFERS" in done.output
        assert done.code == 0 or "glasshouse: " in done.errors or differs, case
        assert done.memory < MOST_MIB, f"{done.memory} MiB: {case}"
        codes[done.code] += 1
    return codes


def make_sound_run(forks: Server, work: Path) -> None:
    done = forks.run(Job([*TRAIN, "sound"], str(work)))
    assert done.code == 0, done.errors


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", READERS)
def test_every_command_survives_damaged_runs(
    name: str, work: Path, forks: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sound_run(forks, work)
    codes: Counter[int] = Counter()
    for seed in range(DAMAGES // len(READERS)):
        codes += run_damaged(forks, work, name, seed)
    with capsys.disabled():
        print(f"\n  {name}: {codes.total()} commands, by exit code {dict(sorted(codes.items()))}")
