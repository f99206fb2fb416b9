"""The commands on a CUDA device."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.models.classifier import load_classifier
from glasshouse.models.devices import use_device
from glasshouse.models.predict import load_predictions
from glasshouse.serving.service import served_models
from tests.journeys.command import glasshouse_here
from tests.journeys.test_transfer import NET, photos as photos

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("recipe", ["small-residual", "fast"])
def test_a_run_is_trained_explained_and_evaluated(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digit = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(digit).save("digit.png")
    train = ["train", "digits", "--recipe", recipe, "--device", "cuda", "--epochs", "1"]
    for command in (
        [*train, "--out", "run", "--snapshots", "2"],
        [*train, "--out", "again"],
        ["predict", "run", "digit.png", "--device", "cuda"],
        ["evaluate", "run", "--device", "cuda"],
        ["explain", "run", "digit.png", "--device", "cuda", "--out", "page"],
    ):
        code, _, errors = glasshouse_here(command, capsys)
        assert code == 0, errors
    environment = json.loads(Path("run/environment.json").read_text())
    assert "NVIDIA" in environment["device"]
    one, two = (load_predictions(Path(run) / "predictions.safetensors") for run in ("run", "again"))
    assert np.array_equal(one.logits, two.logits)
    # The run folder is that of any other run: it is used where there is no GPU.
    classifier = load_classifier(Path("run"))
    assert {p.device.type for p in classifier.net.parameters()} == {"cpu"}


def test_what_is_served_on_a_gpu_is_a_copy_on_the_gpu() -> None:
    from glasshouse.models.bundled import load_bundled

    source = served_models.ModelSource(
        "small", lambda: use_device(load_bundled("cifar10-small"), "cuda")
    )
    model = served_models.load_served(source, 16)
    assert {p.device.type for p in model.fast.net.parameters()} == {"cuda"}


def test_folds_on_a_gpu_predict_what_those_on_the_cpu_do(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for device in ("cpu", "cuda"):
        # What is cached serves every device, so each has a cache of its own here.
        monkeypatch.setenv("GLASSHOUSE_CACHE", str(photos.parent / f"cache-{device}"))
        out = photos.parent / device
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        command = ["folds", str(photos), "--backbone", NET, "--folds", "2", "--device", device]
        code, _, errors = glasshouse_here(
            [*command, "--set", "train.precision=fp32", "--out", str(out)], capsys
        )
        assert code == 0, errors
        assert (torch.cuda.max_memory_allocated() > before) == (device == "cuda")
        found.append(load_predictions(out / "predictions.safetensors"))
    cpu, cuda = found
    assert cuda.ids.tolist() == cpu.ids.tolist()
    # The heads are fitted to features that differ by rounding, and two strengths may be equally
    # good.
    assert (cuda.logits.argmax(1) == cpu.logits.argmax(1)).mean() > 0.9
