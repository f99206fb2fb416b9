"""What a step exchanges with a GPU, counted on a CUDA device that torch only pretends to have."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from glasshouse.data.images import ImageSet
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.state import TrainingState, copy_weights

GPU = torch.device("cuda:0")
EVERYTHING = AugmentSettings(
    rotation_range=10, horizontal_flip=True, brightness_range=0.1, saturation_range=0.1,
    cutout=0.2, pixel_dropout=0.2, mixup=0.2, cutmix=0.5,
)  # fmt: skip
BY_PIXELS = AugmentSettings(random_crop=2, horizontal_flip=True, fill_mode="constant")


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Between the host and the device: to the host, from pinned memory, and such as wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.to_host, self.pinned, self.waiting = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "copy" in str(func):
            # copy_(to, source), _to_copy(source)
            source = args[1] if "copy_" in str(func).split(".")[1] else args[0]
            if source.device.type == "cuda" and result.device.type == "cpu":
                self.to_host += 1
            elif source.device.type == "cpu" and result.device.type == "cuda":
                is_free = getattr(source, "was_pinned", False) and (kwargs or {})["non_blocking"]
                self.pinned, self.waiting = self.pinned + is_free, self.waiting + (not is_free)
        return result


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CUDA device whose tensors have shapes and no values: to read one raises an error."""

    def pin_memory(self: Tensor) -> Tensor:
        found = self.clone()
        found.was_pinned = True  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    # Each step then begins with new images.
    monkeypatch.setattr("glasshouse.data.batches._CHUNK_BYTES", 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def begun(monkeypatch: pytest.MonkeyPatch, settings: TrainSettings) -> TrainingState:
    """A new state on the device, whose backward pass leaves gradients of zero."""
    with GPU:
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(),
            nn.Linear(8 * 36, 4),
        )  # fmt: skip

    def backward(_loss: Tensor) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    state = TrainingState(net, build_optimizer(net, settings))
    state.averaged = copy_weights(net)
    return state


@pytest.fixture
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    ids = np.array([str(number) for number in range(64)])
    return ImageSet(pixels, np.arange(64) % 4, ids, tuple("abcd"))


@pytest.mark.parametrize("augment", [EVERYTHING, BY_PIXELS, AugmentSettings()])
@pytest.mark.parametrize("device_bytes", [0, 1 << 30])
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.usefixtures("gpu")
def test_a_step_waits_for_no_copy_and_reads_nothing(
    images: ImageSet,
    augment: AugmentSettings,
    device_bytes: int,
    shards: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glasshouse.data.batches.room_on", lambda device: device_bytes)
    # On a busy machine, three steps take longer than the second after which results are read.
    monkeypatch.setattr("glasshouse.training.results._EVERY_SECONDS", float("inf"))
    settings = TrainSettings(
        epochs=1, batch_size=8, precision="bf16", ema_decay=0.9, gradient_clip=1.0,
        label_smoothing=0.1, sampling="balanced", shards=shards,
    )  # fmt: skip
    weights = (1.0, 2.0, 3.0, 4.0)
    state = begun(monkeypatch, settings)
    size = Preprocessing(height=8, width=8, mean=(0.5, 0.5, 0.5))
    steps = train(
        state, TrainingSetup(images, images, size, settings, augment, class_weights=weights)
    )
    assert isinstance(next(steps), Step)
    with Copies() as copies:
        for _ in range(3):
            assert isinstance(next(steps), Step)
    assert (copies.to_host, copies.waiting) == (0, 0)
    # The positions of the labels, at least, and of the images where those are on the device.
    assert copies.pinned >= 3
    with pytest.raises(DataDependentOutputException):
        state.read_results()
