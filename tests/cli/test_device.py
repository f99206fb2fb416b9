"""--device, which says where networks compute."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.cli import named_classifier
from glasshouse.cli.options import with_shorthands
from glasshouse.errors import DataError, UsageError
from glasshouse.models import devices
from glasshouse.serving.service import server
from glasshouse.training import features
from glasshouse.workflow.train import experiment
from tests.journeys.command import glasshouse_here

FOLDS = ["images", "--folds", "2", "--backbone", "resnet10t:weights=none,input_size=32"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which has class folders."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of devices that commands in that folder ask for."""
    names: list[str] = []

    def choose(name: str) -> torch.device:
        names.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(devices, "choose_device", choose)
    return names


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "cifar10-small", "images/cat/0.png"],
        ["explain", "cifar10-small", "images/cat/0.png", "--method", "grad-cam", "--no-checks"],
        ["evaluate", "--net", "nets.py:net:input_size=32", "--on", "images"],
    ],
)
def test_a_classifier_computes_where_the_command_says(
    command: list[str], asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nets.py").write_text(
        "from torch.nn import Flatten, Linear, Sequential\n"
        "net = lambda num_classes: Sequential(Flatten(), Linear(3072, num_classes))\n"
    )
    Path("names.txt").write_text("cat\ndog\n")
    names = ["--class-names", "names.txt"] if "--net" in command else []
    for option, expected in ((["--device", "cuda:1"], "cuda:1"), ([], "cpu")):
        asked.clear()
        code, _, errors = glasshouse_here([*command, *names, *option], capsys)
        assert code == 0, errors
        assert set(asked) == {expected}


def test_what_is_served_or_exported_stays_on_the_cpu(
    asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their examples are on the CPU, whatever else this machine has.
    monkeypatch.setattr(server, "run", lambda *given: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    for command in (["serve", "--port", "0"], ["export", "--out", "net.onnx"]):
        asked.clear()
        verb, *options = command
        code, _, errors = glasshouse_here([verb, "cifar10-small", *options], capsys)
        assert code == 0, errors
        assert set(asked) == {"cpu"}, verb


def test_a_service_computes_where_the_command_says(
    asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "run", lambda *given: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    # Also where there are several models.
    command = ["serve", "cifar10-small", "cifar10-tiny", "--port", "0", "--device", "cuda:1"]
    code, _, errors = glasshouse_here(command, capsys)
    assert code == 0, errors
    assert set(asked) == {"cuda:1"} and len(asked) >= 2


@pytest.mark.parametrize("verb", ["folds", "label-errors"])
def test_features_for_folds_are_computed_where_the_command_says(
    verb: str, asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "choose_device", devices.choose_device)
    for option, expected in ((["--device", "cuda:1"], "cuda:1"), ([], "auto")):
        asked.clear()
        out = ["--out", f"out-{expected.replace(':', '-')}"]
        code, _, errors = glasshouse_here([verb, *FOLDS, *option, *out], capsys)
        assert code == 0, errors
        assert set(asked) == {expected}


@pytest.mark.parametrize(
    "command",
    [
        ["folds", *FOLDS, "--out", "out"],
        ["label-errors", *FOLDS, "--out", "out"],
        ["serve", "cifar10-small", "--port", "0"],
        ["train", "images", "--image-size", "32", "--recipe", "small-cnn", "--out", "out"],
        ["tune", "images", "--search", "train.lr=0.1,0.2", "--out", "out"],
        ["compare-backbones", "images", "--backbones", "resnet18,resnet34", "--out", "out.html"],
        ["ladder", "images", "--out", "out"],
        ["lr-find", "images", "--out", "out.png"],
    ],
    ids=lambda command: str(command[0]),
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    command: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*given: object, **more: object) -> None:
        raise AssertionError("read before the device was looked at")

    # Images, and the weights that are served.
    monkeypatch.setattr(experiment, "load_splits", read)
    monkeypatch.setattr(named_classifier, "_classifier_named", read)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    for device, reason in (("cuda:99", ""), ("warp", "unknown device type")):
        code, output, errors = glasshouse_here([*command, "--device", device], capsys)
        assert (code, output) == (2, ""), errors
        assert f"device '{device}' is not available ({reason}" in errors
        assert "Expected auto, cpu, cuda, cuda:1 and so on, or mps." in errors
    assert not any(Path().glob("out*"))


@pytest.mark.parametrize(
    ("command", "worker"),
    [
        (
            ["compare-backbones", "images", "--backbones", "resnet18,resnet34"],
            "compare.backbones.compare_backbones",
        ),
        (["tune", "images", "--search", "train.lr=0.1,0.2"], "tune.tune.search_with"),
        (["ladder", "images"], "compare.ladder.climb"),
        (["lr-find", "images"], "train.range_test.find_recipe_lr"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_the_device_of_a_command_arrives_where_it_trains(
    command: list[str],
    worker: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*given: object, **named: object) -> None:
        raise DataError(f"{given} {named}")

    monkeypatch.setattr(f"glasshouse.workflow.{worker}", stop)
    code, _, errors = glasshouse_here([*command, "--device", "cuda:1"], capsys)
    assert code == 3, errors
    assert re.search(r"\bdevice='?cuda:1'", errors)


def test_training_and_folds_note_the_device_in_the_recipe() -> None:
    assert with_shorthands(["a=1"], device="cuda:1") == ["a=1", "train.device=cuda:1"]
    with pytest.raises(UsageError, match=r"--device cpu and --set train.device=cuda"):
        with_shorthands(["train.device=cuda"], device="cpu")
