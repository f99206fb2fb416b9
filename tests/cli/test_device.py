"""--device, which says where networks compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.cli.options import with_shorthands
from glasshouse.errors import UsageError
from glasshouse.models import devices
from glasshouse.serving.service import server
from tests.journeys.command import glasshouse_here


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of devices that commands ask for; the folder has an image and class folders."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
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


def test_training_and_folds_note_the_device_in_the_recipe() -> None:
    assert with_shorthands(["a=1"], device="cuda:1") == ["a=1", "train.device=cuda:1"]
    with pytest.raises(UsageError, match=r"--device cpu and --set train.device=cuda"):
        with_shorthands(["train.device=cuda"], device="cpu")
