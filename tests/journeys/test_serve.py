"""The service as the command starts it, and the file that `export` writes."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from glasshouse.models.architecture import architecture_of
from glasshouse.models.classifier import Classifier, Preprocessing, save_classifier
from glasshouse.models.layers import build
from glasshouse.settings import ModelSettings
from tests.journeys.command import COMMAND, LONGEST_S, glasshouse_here, own_environment
from tests.serving.service.conftest import png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small saved model."""
    settings, shape = ModelSettings(preset="small-cnn"), (3, 32, 32)
    classifier = Classifier(
        build(settings, 3, shape, seed=0),
        Preprocessing(32, 32),
        ("cat", "dog", "owl"),
        architecture=architecture_of(settings, 3, shape),
    )
    save_classifier(classifier, tmp_path / "pets")
    return tmp_path / "pets"


@pytest.mark.slow
def test_the_service_starts_agrees_with_predict_and_stops(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.png").write_bytes(png(0))
    (tmp_path / "key").write_text("s3cret\n")
    process = subprocess.Popen(
        [*COMMAND, "serve", str(folder), "--port", "0", "--api-key-file", str(tmp_path / "key")],
        cwd=tmp_path, env=own_environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "pets, 3 classes" in line
    headers = {"X-API-Key": "s3cret", "Content-Type": "image/png"}
    request = urllib.request.Request(f"{line.split()[0]}predict?top=3", png(0), headers)
    with urllib.request.urlopen(request, timeout=LONGEST_S) as answer:
        found = json.load(answer)["predictions"][0]["top"]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0
    assert "every accepted request was answered" in errors and "Traceback" not in errors
    _, output, _ = glasshouse_here(
        ["predict", str(folder), str(tmp_path / "one.png"), "--json"], capsys
    )
    offline = json.loads(output)[0]["top"]
    assert [each["class"] for each in found] == [each["class"] for each in offline]
    assert [each["probability"] for each in found] == pytest.approx(
        [each["probability"] for each in offline], abs=2e-6
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a system that hands over no sockets")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_two_workers_serve_together_and_end_together(
    folder: Path, tmp_path: Path, end: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", str(folder), "--port", "0", "--workers", "2"],
        cwd=tmp_path, env=own_environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "pets, 3 classes, 2 workers" in line
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    request = urllib.request.Request(
        f"{line.split()[0]}predict", png(0), {"Content-Type": "image/png"}
    )
    for _ in range(8):
        with urllib.request.urlopen(request, timeout=LONGEST_S) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(f"{line.split()[0]}metrics", timeout=LONGEST_S) as answer:
        counted = re.findall(
            r'^glasshouse_images_total{worker="\d"} (\S+)', answer.read().decode(), re.M
        )
    assert len(counted) == 2 and sum(map(float, counted)) == 8
    process.send_signal(end)
    _, errors = process.communicate(timeout=LONGEST_S)
    assert "Traceback" not in errors
    assert process.returncode == (-end if end == signal.SIGKILL else 0)
    # Also where the process that started them had no time to say so.
    assert not psutil.wait_procs(workers, timeout=LONGEST_S)[1]


def test_a_service_that_cannot_start_says_why(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            ("--port", port): f"cannot listen on 127.0.0.1:{port}",
            ("--port", "0", "--api-key-file", str(tmp_path / "no")): "cannot read the API key",
            ("--port", "0", "--max-queue", "2", "--max-images", "3"): (
                "--max-images 3 is more than --max-queue 2"
            ),
            ("--port", "0", "--weights", str(folder / "model.safetensors")): "has its own weights",
        }
        for options, words in cases.items():
            code, _, errors = glasshouse_here(["serve", str(folder), *options], capsys)
            assert code == 2
            assert words in errors


def test_an_exported_file_is_compared_with_the_classifier(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "one.png").write_bytes(png(0))
    command = ["export", str(folder), "--out", str(tmp_path / "pets.onnx"), "--json"]
    code, output, _ = glasshouse_here([*command, "--image", str(tmp_path / "one.png")], capsys)
    found = json.loads(output)
    assert (code, found["images"], found["same_class"]) == (0, 1, 1)
    assert found["difference"] < 1e-5
    assert found["bytes"] == (tmp_path / "pets.onnx").stat().st_size > 1000
    code, _, errors = glasshouse_here(["export", str(folder), "--out", str(tmp_path)], capsys)
    assert code == 2 and "is a folder" in errors
