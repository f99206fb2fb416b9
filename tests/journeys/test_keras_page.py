"""Every successor of a Keras call on the page "Coming from Keras" runs and does what it says."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glasshouse as gh
from glasshouse.data import sources
from glasshouse.data.images import ImageSet
from glasshouse.data.shapes import make_shapes
from glasshouse.models.presets import preset_layers
from glasshouse.models.pretrained import build_net, find_model
from glasshouse.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PHOTO = Path(gh.__file__).parent / "assets" / "photos" / "chelsea.png"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer",
           "dog", "frog", "horse", "ship", "truck")  # fmt: skip


def load_module() -> Any:
    path = ROOT / "docs" / "hooks" / "keras_steps.py"
    spec = importlib.util.spec_from_file_location("keras_steps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module of their class.
    sys.modules["keras_steps"] = module
    spec.loader.exec_module(module)
    return module


PAGE = load_module()
STEPS = PAGE.read_steps(PAGE.PAGE.read_text(encoding="utf-8"))


def stand_in(split: str, count: int) -> ImageSet:
    """Shapes instead of CIFAR-10, with its size and its class names."""
    images = make_shapes(split, count)
    ids = np.array([f"{split}/{number:05d}" for number in range(count)])
    return ImageSet(images.pixels, images.labels, ids, CLASSES)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo, a few images as CIFAR-10, and random weights as published ones."""
    monkeypatch.setattr(sources, "find_cifar", lambda *_, **__: tmp_path)
    monkeypatch.setattr(
        sources, "read_cifar", lambda _: (stand_in("train", 80), stand_in("test", 20))
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    card = find_model("resnet50")
    assert card.weights_url is not None
    file = tmp_path / "torch" / "hub" / "checkpoints" / Path(card.weights_url).name
    file.parent.mkdir(parents=True)
    torch.save(build_net("resnet50", 1000, {}, seed=0).state_dict(), file)
    Image.open(PHOTO).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_steps_are_those_of_the_tutorial() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))
    assert all(step.python or step.commands for step in STEPS)
    calls = " ".join(step.keras for step in STEPS)
    for name in (
        "cifar10.load_data", "to_categorical", "Sequential", "Conv2D", "MaxPooling2D", "Flatten",
        "Dense", "Dropout", "BatchNormalization", "astype", "adam", "model.compile", "model.fit",
        "ImageDataGenerator", "datagen.fit", "fit_generator", "datagen.flow", "seed",
        "model.evaluate", "history.history", "np.mean", "np.std", "LearningRateScheduler",
        "ResNet50", "include_top=False", "include_top=True", "load_img", "preprocess_input",
        "decode_predictions", "Model(inputs", "matshow", "display_outputs", "apply_modifications",
        "visualize_saliency", "backprop_modifier", "find_layer_idx", "visualize_cam", "overlay",
    ):  # fmt: skip
        assert name in calls, name


@pytest.mark.usefixtures("offline")
def test_cifar_10_is_loaded_without_any_settings() -> None:
    splits = gh.load_splits("cifar10")
    assert splits.train.class_names == CLASSES
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (70, 10, 20)


@pytest.mark.filterwarnings("default")
def test_the_python_runs_and_does_what_it_says(
    offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = (
        "python",
        "glasshouse summary",
        "glasshouse predict",
        "glasshouse explain resnet50 --l",
    )
    names: dict[str, Any] = {}
    printed: dict[str, str] = {}
    for step, what, found in PAGE.run_steps(
        STEPS, epochs=1, images=60, chosen=lambda what: what.startswith(quick)
    ):
        printed[what if what != "python" else str(step.number)] = capsys.readouterr().out
        names = found
    check_training(names, printed)
    check_explanations(names, printed)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_command_runs(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [what for _, what, _ in PAGE.run_steps(
        STEPS, epochs=1, images=60, chosen=lambda what: what != "python"
    )]  # fmt: skip
    assert run == [line for step in STEPS for line in step.commands]
    for folder in ("channel", "layers", "saliency", "shark", "guided", "cam", "all"):
        assert list((offline / "why" / folder).rglob("*.png")), folder
    drawn = {path.stem for path in (offline / "why" / "layers").rglob("activations-*.png")}
    assert {"activations-relu", "activations-layer1.0.relu"} <= drawn
    for recipe in ("tutorial-basic", "tutorial-wide-bn", "tutorial-resnet50", "transfer-features"):
        assert (offline / "runs" / f"cifar10-{recipe}-1" / "report.html").is_file(), recipe


def check_training(names: dict[str, Any], printed: dict[str, str]) -> None:
    basic = load_recipe("tutorial-basic")
    assert printed["4"].strip() in CLASSES
    # The network that the page builds layer by layer is the recipe's.
    assert names["model"].layers == layers_of(basic)
    assert names["augment"] == basic.augment
    written = {"batch_size": 32, "optimizer": "adam", "lr": 0.001}
    assert names["settings"].model_dump(include=set(written)) == written
    assert "epochs=10" in STEPS[4].python
    assert basic.train.model_dump(include={*written, "epochs"}) == {**written, "epochs": 10}
    for text in (printed["7"], printed["glasshouse summary tutorial-basic"]):
        assert "603,474" in text
    assert names["settings"].seed == 1
    assert names["classifier"].class_names == CLASSES
    assert names["standardised"].scaling == names["wide"].model.scaling == "standardize_global"
    assert names["slower"].lr == load_recipe("tutorial-wide-fixed-lr").train.lr == 1e-4
    schedule: Any = load_recipe("tutorial-wide-schedule").train.schedule
    # Ten epochs, and those of which the tutorial's function says more.
    assert [names["rate_of"](epoch) for epoch in range(12)] == list(schedule.rates)
    assert names["every_step"].function(0.5) < names["every_step"].function(0.0) == 1e-4
    with_bn = load_recipe("tutorial-wide-bn").model
    assert names["normalised"].layers == preset_layers(with_bn.preset or "")
    assert names["normalised"].scaling == with_bn.scaling
    assert names["normalised"].initialization == with_bn.initialization
    assert len(names["tuned_epochs"]) == 1
    found = names["transfer"].model.pretrained
    assert names["backbone"] == found
    assert (found.name, found.input_size, found.dropout) == ("resnet50", 32, 0.2)


def layers_of(recipe: gh.Recipe) -> tuple[Any, ...]:
    assert recipe.model.preset is not None
    return preset_layers(recipe.model.preset)


def check_explanations(names: dict[str, Any], printed: dict[str, str]) -> None:
    network = names["network"]
    assert len(network.class_names) == 1000
    assert "layer4.2.conv3" in printed["glasshouse explain resnet50 --layers"]
    assert names["channel"].shape == (112, 112)
    answer = names["answer"]
    assert f"photo.jpg: {network.class_names[answer.logits[0].argmax()]} " in printed["26"]
    assert printed["29"].strip() == "(1, 1000)"
    assert names["early"].values.shape == (1, 64, 112, 112)
    assert names["deep"].values.shape[1] in (64, 256)
    assert [each.method for each in names["cams"]] == [
        "grad-cam", "grad-cam-guided-rule", "grad-cam-relu-rule",
    ]  # fmt: skip
    for each in (names["saliency"], names["guided"], names["relu"], *names["cams"]):
        assert each.targets.tolist() == [answer.logits[0].argmax()]
    assert names["shark"].targets.tolist() == [2]
    assert network.class_names[2] == "great white shark"
    assert names["cams"][0].layer == "layer4.2.conv3"
    assert names["guided_cam"].maps.shape == (1, 224, 224)
