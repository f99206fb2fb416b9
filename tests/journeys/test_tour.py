"""The tour tells the whole story, offline, in the time that it promises."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.journeys.command import COMMAND, own_environment

LONGEST_S = 180


@pytest.mark.slow
def test_the_tour_ends_in_three_minutes_with_everything_in_one_folder(tmp_path: Path) -> None:
    environment = own_environment(tmp_path)
    if (os.cpu_count() or 1) > 1:
        environment["OMP_NUM_THREADS"] = "2"
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "tour", "--out", "run"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < LONGEST_S
    stops = ("Check", "Network", "Tune", "Train", "Evaluate", "Predict", "Explain", "Mistakes")
    for number, stop in enumerate((*stops, "Report"), start=1):
        assert f"{number}  {stop}\n" in done.stderr
    assert "accuracy " in done.stdout and "one-cycle" in done.stdout
    for name in ("report.html", "mistakes.html", "model.safetensors"):
        assert (tmp_path / "run" / name).is_file()
    assert list((tmp_path / "run" / "explanations").glob("example-*/sheet.png"))
