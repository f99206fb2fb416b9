"""Published weights from end to end: file, network, preprocessing, prediction."""

import csv
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_0_Weights

from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import predict_logits
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights
from glasshouse.models.zoo import create

DATA = Path(os.environ.get("GLASSHOUSE_DATA", "."))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
pytestmark = pytest.mark.skipif("GLASSHOUSE_DATA" not in os.environ, reason="needs real data")


def _photos() -> list[tuple[Path, int]]:
    folder = DATA / "photos" / "imagenet"
    with (folder / "index.csv").open() as file:
        return [(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]


def _require_answers_of(classifier: Classifier, transform: Any) -> int:
    """Compare each photo's answer with the library's own pipeline; how many photos are right."""
    right = 0
    for path, label in _photos():
        with Image.open(path) as file:
            inputs = transform(file.convert("RGB"))[None]
        with torch.inference_mode():
            theirs = classifier.net(inputs)
        ours = torch.from_numpy(classifier.predict(path).logits)
        assert ours.argmax() == theirs.argmax(), path
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        right += int(ours.argmax()) == label
    return right


def _mobilenet(arguments: str = ":pad_type=same") -> Classifier:
    file = DATA / "weights" / "imagenet" / "mobilenetv2_100_tfsame.fp16.safetensors"
    classifier = create(f"mobilenetv2_100{arguments}", weights=file).classifier
    half = (0.5, 0.5, 0.5)
    return replace(classifier, preprocessing=replace(classifier.preprocessing, mean=half, std=half))


@pytest.mark.realdata
def test_each_answer_of_mobilenet_is_that_of_timm() -> None:
    classifier = _mobilenet()
    net = timm.create_model("mobilenetv2_100")
    config: dict[str, Any] = resolve_data_config(model=net)  # type: ignore[no-untyped-call]
    levels = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    transform = create_transform(**{**config, **levels})
    assert _require_answers_of(classifier, transform) == 42


@pytest.mark.realdata
def test_each_answer_of_squeezenet_is_that_of_torchvision() -> None:
    file = DATA / "weights" / "imagenet" / "squeezenet1_0.fp16.safetensors"
    classifier = create("squeezenet1_0", weights=file).classifier
    transform = SqueezeNet1_0_Weights.IMAGENET1K_V1.transforms()
    assert _require_answers_of(classifier, transform) == 29


class _Block(nn.Module):
    """Two convolutions and a shortcut that has no weights (option A of He et al. 2015)."""

    def __init__(self, came: int, filters: int) -> None:
        super().__init__()
        self.grown, self.stride = filters - came, 2 if filters > came else 1
        self.conv1 = nn.Conv2d(came, filters, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        padding = (0, 0, 0, 0, self.grown // 2, self.grown // 2)
        short = nn.functional.pad(maps[:, :, :: self.stride, :: self.stride], padding)
        output: Tensor = (inner + short).relu()
        return output


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(_Block(16, 32), _Block(32, 32), _Block(32, 32))
        self.layer3 = nn.Sequential(_Block(32, 64), _Block(64, 64), _Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(images)).relu())))
        logits: Tensor = self.linear(maps.mean((2, 3)))
        return logits


def resnet20(data: Path) -> _ResNet20:
    """With weights that others trained on CIFAR-10."""
    file = data / "weights" / "cifar10-resnet" / "resnet20-12fca82f.th"
    weights, _ = read_weights(file)
    net = _ResNet20()
    assert load_weights(net, weights, file) == (f"'module.' was removed from the names in {file}",)
    return net


@pytest.mark.realdata
def test_a_foreign_resnet20_reaches_its_accuracy_on_cifar10() -> None:
    net = resnet20(DATA)
    with (DATA / "cifar-10-batches-py" / "test_batch").open("rb") as batch:
        content = pickle.load(batch, encoding="bytes")
    images = content[b"data"].reshape(-1, 3, 32, 32)
    preprocessing = Preprocessing(32, 32, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    right = predict_logits(net, preprocessing, images).argmax(1).numpy() == content[b"labels"]
    assert right.sum() == 9173
