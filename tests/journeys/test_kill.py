"""`kill -9` at random moments, again and again, ends with the same bytes."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.journeys.command import COMMAND, glasshouse, own_environment
from tests.journeys.test_train import SMALL, epochs, result_bytes

# On a slow machine there are fewer kills, rather than a longer test.
LONGEST_S, MOST, FEWEST = 90, 20, 5


def resume_if_begun(run: Path) -> list[str]:
    """--resume, unless the run was killed before it wrote anything, and so starts anew."""
    return ["--resume"] if (run / "recipe.toml").is_file() else []


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    balanced = ["--set", "train.sampling=balanced"]
    arguments = ["train", "digits", *SMALL, *balanced, "--set", "train.epochs=12"]
    started = time.monotonic()
    glasshouse(*arguments, "--out", "whole", cwd=tmp_path)
    whole_seconds = time.monotonic() - started
    moments = random.Random(0)
    begun, kills = time.monotonic(), 0
    for _ in range(MOST):
        if kills >= FEWEST and time.monotonic() - begun > LONGEST_S:
            break
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--out", "killed", *resume_if_begun(tmp_path / "killed")],
            cwd=tmp_path, env=own_environment(tmp_path),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            # From before the first epoch to the middle of writing the report.
            process.wait(moments.uniform(0.3, 1.0) * whole_seconds)
            # It got there first, so the machine has become faster since the first run.
            whole_seconds /= 2
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            # The machine has become faster since it was timed: start again, and kill earlier.
            shutil.rmtree(tmp_path / "killed")
            whole_seconds /= 2
    assert kills >= FEWEST
    again = resume_if_begun(tmp_path / "killed")
    glasshouse(*arguments, "--out", "killed", *again, cwd=tmp_path)
    assert result_bytes(tmp_path / "killed") == result_bytes(tmp_path / "whole")
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")
