import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.journeys.command import glasshouse, glasshouse_here, glasshouse_signalled

# A tiny network on the digits of scikit-learn, so that a journey takes seconds.
SMALL = [
    "--recipe", "small-cnn",
    "--set", "train.epochs=3",
    "--set", "train.precision=fp32",
    "--set", "data.train_limit=400",
    "--set", "train.ema_decay=0.9",
]  # fmt: skip


def result_bytes(run: Path) -> dict[str, bytes]:
    """The files of a run that must not depend on interruptions."""
    names = ["model.safetensors", "model.json", "predictions.safetensors", "evaluation.json"]
    return {name: (run / name).read_bytes() for name in names}


def epochs(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = {"seconds", "images_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journey")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """An uninterrupted run."""
    done = glasshouse("train", "digits", *SMALL, "--out", "whole", "--json", cwd=folder)
    metrics = json.loads(done.stdout)
    assert metrics["run"] == "whole"
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"] < metrics["accuracy"]["high"]
    assert "epoch 3/3" in done.stderr
    return folder / "whole"


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize("flip", ["true", "false"])
def test_mirrored_digits_are_pointed_out_with_what_to_do(
    flip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = f"augment.horizontal_flip={flip}"
    small = ["--set", "train.epochs=1", "--set", "data.train_limit=64", "--set", option]
    command = ["train", "digits", "--recipe", "small-cnn", *small, "--out", str(tmp_path / "run")]
    code, _, said = glasshouse_here(command, capsys)
    assert code == 0
    advice = "digits or letters, as their names suggest, use --set augment.horizontal_flip=false"
    assert (advice in said) == (flip == "true")


def test_a_run_folder_holds_plain_files(run: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "recipe.toml", "environment.json", "metrics.jsonl", "model.safetensors", "model.json",
        "predictions.safetensors", "validation-predictions.safetensors", "evaluation.json",
        "report.html", "plots/curves.png", "plots/confusion.png", "plots/reliability.png",
        "plots/examples.png",
    } <= names  # fmt: skip
    assert len(list((run / "checkpoint").iterdir())) == 2
    assert len(epochs(run)) == 3


def test_the_report_needs_no_other_host(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/png;base64," in page


Capture = pytest.CaptureFixture[str]


def output_of(capsys: Capture, *arguments: str | Path) -> str:
    code, output, errors = glasshouse_here([str(argument) for argument in arguments], capsys)
    assert code == 0, errors
    return output


def test_evaluate_prints_the_metrics_of_the_run(run: Path, capsys: Capture) -> None:
    text = output_of(capsys, "evaluate", run)
    assert text.startswith("accuracy ")
    assert "95 % confidence interval" in text
    figures = json.loads(output_of(capsys, "evaluate", run, "--json"))
    assert figures == json.loads((run / "evaluation.json").read_text(encoding="utf-8"))


def test_evaluate_on_another_source_uses_its_images_only(run: Path, capsys: Capture) -> None:
    again = json.loads(output_of(capsys, "evaluate", run, "--on", "digits", "--json"))
    assert again["accuracy"] == json.loads((run / "evaluation.json").read_text())["accuracy"]
    code, _, errors = glasshouse_here(["evaluate", str(run), "--on", "shapes"], capsys)
    assert code == 3
    assert "Use a source with the same classes" in errors


def test_runs_lists_the_run(run: Path, folder: Path, capsys: Capture) -> None:
    rows = json.loads(output_of(capsys, "runs", folder, "--json"))
    row = next(row for row in rows if row["run"] == str(run))
    assert (row["recipe"], row["epochs"], row["finished"]) == ("small-cnn", 3, True)
    assert "small-cnn" in output_of(capsys, "runs", folder)


def test_summary_counts_the_layers(run: Path, capsys: Capture) -> None:
    assert "conv1" in output_of(capsys, "summary", run)
    figures = json.loads(output_of(capsys, "summary", "tutorial-wide", "--json"))
    assert figures["parameters"] > 1_000_000


def test_predict_names_the_most_probable_classes(run: Path, folder: Path, capsys: Capture) -> None:
    image = folder / "photo.png"
    Image.fromarray(np.full((30, 20), 7, dtype=np.uint8)).save(image)
    (answer,) = json.loads(output_of(capsys, "predict", run, image, "--top", "3", "--json"))
    shares = [entry["probability"] for entry in answer["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert str(image) in output_of(capsys, "predict", run, image)


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize(
    "when", [pytest.param("checkpoint/00001-*", marks=pytest.mark.slow), "checkpoint/00002-*"]
)
def test_kill_and_resume_ends_with_the_same_bytes(
    run: Path, folder: Path, capsys: Capture, when: str
) -> None:
    out = folder / f"killed-{when[11:16]}"
    stopped = glasshouse_signalled(
        "train", "digits", *SMALL, "--out", out,
        cwd=folder, number=signal.SIGKILL, out=out, when=when,
    )  # fmt: skip
    assert stopped.returncode == -signal.SIGKILL
    output_of(capsys, "train", "digits", "--out", out, "--resume")
    assert result_bytes(out) == result_bytes(run)
    assert epochs(out) == epochs(run)


@pytest.mark.usefixtures("no_reports")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_signals_save_the_state_and_print_how_to_resume(
    run: Path, folder: Path, capsys: Capture, number: signal.Signals, code: int
) -> None:
    out = folder / f"stopped-{code}"
    stopped = glasshouse_signalled(
        "train", "digits", *SMALL, "--out", out,
        cwd=folder, number=number, out=out, when="checkpoint/00001-*",
    )  # fmt: skip
    assert stopped.returncode == code, stopped.stderr
    assert f"glasshouse train digits --out {out} --resume" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    rows = json.loads(output_of(capsys, "runs", out, "--json"))
    assert rows[0]["finished"] is False
    output_of(capsys, "train", "digits", "--out", out, "--resume")
    assert result_bytes(out) == result_bytes(run)


@pytest.mark.slow
def test_a_finished_run_can_be_resumed_without_harm(run: Path, folder: Path) -> None:
    before = result_bytes(run)
    glasshouse("train", "digits", "--out", run, "--resume", cwd=folder)
    assert result_bytes(run) == before
