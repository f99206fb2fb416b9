"""Learning-rate finder, seeds, compare, reproduce and tune on the command line."""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from glasshouse.cli.lr_find import _recommendation
from glasshouse.recipe import load_recipe
from glasshouse.schedule_settings import OneCycle, PerEpoch
from glasshouse.settings import TrainSettings
from glasshouse.workflow.train import time_budget, time_plan
from tests.journeys.command import LONGEST_S, glasshouse, glasshouse_here, start, wait_for_file

SMALL = [
    "--recipe", "small-cnn",
    "--set", "train.epochs=2",
    "--set", "train.precision=fp32",
    "--set", "train.device=cpu",
    "--set", "data.train_limit=128",
]  # fmt: skip
SEARCH = ["--search", "train.lr=1e-4..1e-2:log", "--search", "train.batch_size=16,32"]

Capture = pytest.CaptureFixture[str]


def output_of(capsys: Capture, *arguments: str | Path, code: int = 0) -> str:
    got, output, errors = glasshouse_here([str(argument) for argument in arguments], capsys)
    assert got == code, errors
    return output


def test_lr_find_suggests_a_rate_and_draws_the_curve(tmp_path: Path, capsys: Capture) -> None:
    image = tmp_path / "curve.png"
    common = ["lr-find", "digits", *SMALL, "--seeds", "2", "--steps", "60"]
    text = output_of(capsys, *common, "--out", image)
    assert "valley" in text
    *_, verdict, recommended = text.strip().splitlines()
    assert verdict.startswith("minimum/10 suggests ")
    assert recommended.startswith("for small-cnn, use train.lr=") and "maximum" not in recommended
    assert image.read_bytes().startswith(b"\x89PNG")
    curve = json.loads(output_of(capsys, *common, "--rule", "steepest", "--json", "--out", "-"))
    assert curve["suggestion"] == curve["suggestions"]["steepest"]
    assert len(curve["losses"]) == 2
    assert curve["auto_lr"] == curve["suggestion"]
    peak = json.loads(
        output_of(
            capsys, *common, "--set", "train.schedule={type='one_cycle'}", "--json", "--out", "-"
        )
    )
    assert peak["auto_lr"] == peak["max_lr"] > peak["suggestion"]
    rising = TrainSettings(lr=0.002, schedule=OneCycle())
    assert "use train.lr=0.002, the maximum of its one_cycle" in _recommendation(rising, "fast")
    listed = TrainSettings(schedule=PerEpoch(rates=(0.002, 0.001)))
    assert "use train.lr=auto, which finds 0.002" in _recommendation(listed, "tutorial-wide-bn")
    assert "valley" in glasshouse_here([*common, "--rule", "vally"], capsys)[2]


@pytest.mark.slow
def test_auto_seeds_compare_and_reproduce(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "seeds"
    arguments = ["train", "digits", *SMALL, "--set", "train.lr=auto", "--seeds", "2"]
    summary = json.loads(output_of(capsys, *arguments, "--out", out, "--json"))
    assert summary["seeds"] == [0, 1]
    assert 'lr = "auto"' in (out / "seed-0" / "recipe.toml").read_text()
    page = (out / "seed-0" / "report.html").read_text()
    assert "found by a range test" in page
    assert (out / "seed-0" / "plots" / "finder.png").is_file()
    text = output_of(
        capsys, "compare", out / "seed-0", out / "seed-1", "--out", tmp_path / "pair.html"
    )
    assert "McNemar" in text
    assert (tmp_path / "pair.html").is_file()
    pair = json.loads(output_of(capsys, "compare", out / "seed-0", out / "seed-1", "--json"))
    assert pair[0]["image_count"] > 300
    code, _, errors = glasshouse_here(["train", "digits", "--resume", "--out", str(out)], capsys)
    assert (code, "add --seeds N to resume them" in errors) == (2, True)
    text = output_of(capsys, "train", "digits", "--resume", "--out", out, "--seeds", "2")
    assert "accuracy, mean of 2 seeds: " in text
    figures = out / "seed-0" / "evaluation.json"
    figures.write_text(figures.read_text().replace('"image_count": ', '"image_count": 1'))
    code, text, errors = glasshouse_here(["reproduce", str(out / "seed-0")], capsys)
    assert (code, "DIFFERS  evaluation.json" in text) == (1, True)
    assert text.count("agrees ") == 6
    # The second run was temporary, so its path must not be printed.
    assert tempfile.gettempdir() not in (text + errors).replace(str(tmp_path), "")
    assert "report:" not in errors


@pytest.mark.slow
def test_a_time_budget_becomes_a_recipe_that_resumes_and_reproduces(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_plan, "MOST_EPOCHS", 2)
    monkeypatch.setattr(time_budget, "_LONGEST", 0.2)
    arguments = ["train", "digits", *SMALL, "--minutes", "600"]
    out = tmp_path / "run"
    code, output, errors = glasshouse_here([*arguments, "--out", str(out)], capsys)
    assert (code, output) == (0, "")
    assert "Chosen: 2 times the width, 2 epochs of all 128 images" in errors
    assert "of 10:00:00 h used" in errors
    recipe = load_recipe(out / "recipe.toml")
    assert (recipe.name, recipe.train.epochs) == ("small-cnn-600min", 2)
    assert "2 times the width" in (out / "report.html").read_text()
    (out / "report.html").unlink()
    code, _, errors = glasshouse_here([*arguments, "--out", str(out), "--resume"], capsys)
    assert (code, "resuming after epoch 2" in errors, "Chosen" in errors) == (0, True, False)
    assert "every file agrees" in output_of(capsys, "reproduce", out)
    usual = ["train", "digits", "--set", "data.train_limit=64", "--minutes", "600"]
    code, _, errors = glasshouse_here([*usual, "--out", str(tmp_path / "usual")], capsys)
    assert (code, "too small for fast; using small-residual instead" in errors) == (0, True)
    code, _, errors = glasshouse_here([*arguments[:-1], "0.0001"], capsys)
    assert (code, "the shortest run takes" in errors) == (2, True)


def test_a_time_budget_that_cannot_be_planned_leaves_no_folder_that_looks_like_a_run(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ants", "bees"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_text("not an image")
    code, _, errors = glasshouse_here(["train", "photos", "--minutes", "1"], capsys)
    assert code == 3, errors
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_invalid_search_is_rejected_before_anything_runs(
    tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["tune", "digits", *SMALL, "--out", str(tmp_path / "tune")]
    code, _, errors = glasshouse_here(arguments, capsys)
    assert (code, "needs a --search" in errors) == (2, True)
    code, _, errors = glasshouse_here([*arguments, "--search", "train.lrr=1..2"], capsys)
    assert (code, "Did you mean 'train.lr'" in errors) == (2, True)
    rates = ["--search", "train.lr=1e-4..1e-1:log", "--set", "train.keep=last"]
    for twice in (
        [*rates, "--set", "data.train_on_validation=true"],
        [*rates, "--search", "data.train_on_validation=true,false"],
    ):
        code, _, errors = glasshouse_here([*arguments, *twice], capsys)
        assert (code, "data.train_on_validation: tune needs held-out images" in errors) == (2, True)
    assert not (tmp_path / "tune").exists()


def children(pid: int) -> list[int]:
    """The worker processes of a search."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, words in commands.items() if b"spawn_main" in words]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
@pytest.mark.slow
def test_a_search_survives_a_killed_worker_and_writes_its_best_recipe(tmp_path: Path) -> None:
    arguments = ["tune", "digits", *SMALL, "--set", "train.epochs=12", *SEARCH, "--trials", "3",
                 "--workers", "2", "--no-prune", "--out", "tune", "--json"]  # fmt: skip
    process = start(*arguments, cwd=tmp_path)
    wait_for_file(tmp_path / "tune" / "trials", "*/checkpoint/*", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, errors
    found = json.loads(output)
    states = [trial["state"] for trial in found["trials"]]
    assert (states.count("complete"), states.count("lost")) == (3, 1)
    lost = next(trial for trial in found["trials"] if trial["state"] == "lost")
    again = [t for t in found["trials"] if t["values"] == lost["values"] and t is not lost]
    assert [trial["state"] for trial in again] == ["complete"]
    more = [word if word != "3" else "4" for word in arguments]
    after = json.loads(glasshouse(*more, cwd=tmp_path).stdout)["trials"]
    assert after[: len(found["trials"])] == found["trials"]
    assert [trial["state"] for trial in after].count("complete") == 4
    assert (tmp_path / "tune" / "plots" / "history.png").is_file()
    assert not list((tmp_path / "tune").rglob("predictions.safetensors"))
    best = load_recipe(tmp_path / "tune" / "best.toml")
    assert best.train.lr == found["best"]["values"]["train.lr"]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=LONGEST_S)
    assert "Traceback" not in errors
    return process.returncode, output, errors


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at once", "while the first trains"])
def test_two_searches_in_one_folder_do_no_harm_to_one_another(tmp_path: Path, when: str) -> None:
    short = ["tune", "digits", *SMALL, "--set", "train.epochs=3", *SEARCH, "--trials", "2"]
    alone = json.loads(glasshouse(*short, "--out", "alone", "--json", cwd=tmp_path).stdout)
    arguments = [*short, "--out", "tune", "--json"]
    first = start(*arguments, cwd=tmp_path)
    if when == "while the first trains":
        wait_for_file(tmp_path / "tune" / "trials", "*/checkpoint/*", first)
        # It cannot end before the second has begun.
        first.send_signal(signal.SIGSTOP)
    second = start(*arguments, cwd=tmp_path)
    if when == "while the first trains":
        assert second.wait(LONGEST_S) == 2
        first.send_signal(signal.SIGCONT)
    results = [ended(process) for process in (first, second)]
    assert sorted(code for code, _, _ in results) in ([0, 2], [0, 0])
    refused = [errors for code, _, errors in results if code]
    assert all("another process is training into" in errors for errors in refused)
    # Whoever searched has what a search without company has, and so has the folder.
    for code, output, _ in results:
        if not code:
            assert shared_part(json.loads(output)) == shared_part(alone)
    again = json.loads(glasshouse(*arguments, cwd=tmp_path).stdout)
    assert shared_part(again) == shared_part(alone)
    best = [tmp_path / folder / "best.toml" for folder in ("tune", "alone")]
    assert best[0].read_bytes() == best[1].read_bytes()


def shared_part(found: dict[str, object]) -> dict[str, object]:
    """What two searches of the same trials have in common."""
    return {key: value for key, value in found.items() if key != "best_recipe"}
