"""A user's own network on the command line, from predicting to training, in this process."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from glasshouse.cli.named_classifier import NamedModel
from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.wording import percentage
from tests.journeys.command import glasshouse_here

CODE = """
import torch
from torch import nn

def small(num_classes, width=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, num_classes),
    )
"""
NET = ["--net", "own_nets.py:small:input_size=16,mean=0.5"]
NAMED = [*NET, "--class-names", "names.txt", "--weights", "w.pt"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code, weights other than those that the code sets, class names and an image."""
    (tmp_path / "own_nets.py").write_text(CODE)
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in _net().state_dict().items()}},
        tmp_path / "w.pt",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_class_names_are_read_as_editors_write_them(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "names.txt"
    # A line separator of typesetting is part of a name.
    path.write_text("Käse\r\n 犬\r\n\r\na\u2028b\r\n", encoding=encoding, newline="")
    assert NamedModel(None, "own", class_names=path).names() == ("Käse", "犬", "a\u2028b")


def test_class_names_in_another_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("Käse\nBrot\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"not UTF-8 text .* save it as UTF-8"):
        NamedModel(None, "own", class_names=path).names()


def _net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ).eval()


def _expected() -> dict[str, float]:
    preprocessing = Preprocessing(16, 16, mean=(0.5, 0.5, 0.5))
    classifier = Classifier(_net(), preprocessing, ("cat", "dog", "bird"))
    (shares,) = classifier.predict("image.png").probabilities
    return dict(zip(classifier.class_names, shares, strict=True))


def _answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 0, errors
    return output


@pytest.mark.usefixtures("folder")
def test_own_code_predicts_with_the_weights_and_class_names_of_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (answer,) = json.loads(_answer(["predict", *NAMED, "image.png", "--json"], capsys))
    found = {each["class"]: each["probability"] for each in answer["top"]}
    assert found == pytest.approx(_expected(), abs=2e-6)


@pytest.mark.usefixtures("folder")
def test_own_code_is_explained_and_its_layers_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = _answer(["explain", *NAMED, "image.png", "--method", "saliency"], capsys)
    best = max(_expected(), key=lambda name: _expected()[name])
    assert output.startswith(f"image.png: {best} ({percentage(_expected()[best])})")
    listed = json.loads(_answer(["explain", *NAMED, "--layers", "--json"], capsys))
    assert listed[0]["kind"] == "Conv2d"
    assert listed[-1]["shape"] == [3]


@pytest.mark.usefixtures("folder", "no_reports")
def test_a_run_of_own_code_is_evaluated_and_refuses_what_it_has_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["--epochs", "1", "--set", "data.train_limit=40", "--out", "run"]
    output = _answer(["train", "digits", *NET, *settings, "--json"], capsys)
    trained = json.loads(output)["accuracy"]
    again = ["evaluate", "run", "--on", "digits", *NET, "--json"]
    assert json.loads(_answer(again, capsys))["accuracy"] == trained
    for option, file in (("--weights", "w.pt"), ("--class-names", "names.txt")):
        for command in (["evaluate", "run"], ["explain", "run", "--errors"]):
            code, _, errors = glasshouse_here([*command, *NET, option, file], capsys)
            assert (code, f"run has its own {option[2:].replace('-', ' ')}" in errors) == (2, True)
