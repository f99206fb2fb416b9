"""What training promises on a CUDA device: the same bytes again, no waiting, and clear errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits, take
from glasshouse.errors import DivergedError
from glasshouse.models.layers import build
from glasshouse.models.libraries import torchvision_library
from glasshouse.models.predict import predict_logits
from glasshouse.recipe import load_recipe
from glasshouse.settings import AugmentSettings
from glasshouse.training.adapting import adapt
from glasshouse.training.features import extract, make_extractor
from glasshouse.training.finder import RangeTest, find_lr
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.state import begin, load_checkpoint, save_checkpoint
from tests.conftest import make_images
from tests.training.test_features import FLOAT, SMALL
from tests.training.test_loop import weights
from tests.training.test_state import made

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
BLUR = AugmentSettings(rotation_range=10, width_shift_range=0.1, horizontal_flip=True, cutmix=0.5)


def network(name: str) -> nn.Module:
    if name == "resnet18":
        torch.manual_seed(0)
        net: nn.Module = torchvision_library().models.resnet18(num_classes=4)
        return net
    return build(load_recipe(name).model, 4, (3, 32, 32), seed=0)


def setup_of(splits: Splits, **values: Any) -> TrainingSetup:
    return replace(made(splits, device="cuda", **values), augment=BLUR)


@pytest.fixture
def splits() -> Splits:
    """Images of 32x32 pixels."""
    sets = [make_images(count, seed=seed) for seed, count in enumerate((96, 32, 32))]
    wide = [replace(each, pixels=np.kron(each.pixels, np.ones((2, 2), np.uint8))) for each in sets]
    train_set, validation, test = wide
    return Splits(train_set, validation, test)


def run(net: nn.Module, setup: TrainingSetup, folder: Path | None = None, stop: int = 0) -> Any:
    state = begin(net, setup.settings, CUDA)
    if folder is not None and any(folder.iterdir()):
        assert load_checkpoint(state, folder)
    for done, _ in enumerate(train(state, setup), 1):
        if done == stop:
            assert folder is not None
            save_checkpoint(state, folder)
            break
    return state


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
# Not resnet18, which has overlapping windows of max pooling.
@pytest.mark.parametrize("name", ["fast", "tutorial-basic", "small-residual"])
def test_a_run_repeated_or_resumed_has_the_same_bytes(
    name: str, precision: str, splits: Splits, tmp_path: Path
) -> None:
    net = network(name)
    setup = setup_of(splits, precision=precision, ema_decay=0.9, keep="best")
    whole = run(net, setup)
    assert weights(run(net, setup).net) == weights(whole.net)
    run(net, setup, tmp_path, stop=9)
    resumed = run(net, setup, tmp_path)
    assert weights(resumed.net) == weights(whole.net)
    assert [e.validation_loss for e in resumed.history] == [
        e.validation_loss for e in whole.history
    ]


def test_no_step_waits_for_the_device(splits: Splits) -> None:
    setup = setup_of(splits, epochs=20, ema_decay=0.9, gradient_clip=1.0)
    records = train(begin(network("fast"), setup.settings, CUDA), setup)
    # The first epoch moves constants to the device.
    while isinstance(next(records), Step):
        pass
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            assert isinstance(next(records), Step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_that_do_not_fit_on_the_device_give_the_same_bytes(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, setup = network("tutorial-basic"), setup_of(splits)
    there = run(net, setup)
    monkeypatch.setattr("glasshouse.data.batches.room_on", lambda device: 0)
    assert weights(run(net, setup).net) == weights(there.net)


def test_a_loss_that_is_not_finite_names_its_images(splits: Splits) -> None:
    setup = setup_of(splits, optimizer="sgd", lr=1e30)
    with pytest.raises(DivergedError, match=r"the loss became .* The batch had the images .*Lower"):
        run(network("tutorial-basic"), setup)


def test_the_range_test_reads_the_same_losses_again(splits: Splits) -> None:
    net, setup = network("fast"), setup_of(splits)
    one, two = (find_lr(net, setup, test=RangeTest(seeds=1, steps=12)) for _ in range(2))
    assert np.array_equal(one.losses, two.losses, equal_nan=True)


@pytest.mark.parametrize("name", ["fast", "tutorial-basic", "small-residual", "resnet18"])
def test_the_first_steps_are_those_of_the_cpu(name: str, splits: Splits) -> None:
    net = network(name).eval()
    setup = replace(setup_of(splits, lr=1e-3, optimizer="sgd"), augment=AugmentSettings())
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    few = take(splits.train, range(16))
    found = []
    for device in ("cpu", "cuda"):
        state = begin(net, setup.settings, torch.device(device))
        next(train(state, replace(setup, train=few)))
        found.append(predict_logits(state.net, setup.preprocessing, few.pixels))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_features_are_those_of_the_cpu(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, found = adapt(SMALL, splits.train).classifier, []
    for device in ("cpu", "cuda"):
        # What is cached serves every device, so each has a cache of its own here.
        monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / device))
        settings = FLOAT.model_copy(update={"device": device})
        extractor = make_extractor(classifier, splits.train, settings)
        assert extractor.device.type == device
        assert {p.device.type for p in classifier.net.parameters()} == {"cpu"}
        found.append(extract(extractor, splits.train, flips=True))
    cpu, cuda = found
    assert cpu.mirrored is not None and cuda.mirrored is not None
    assert not np.array_equal(cpu.values, cpu.mirrored)
    np.testing.assert_allclose(cuda.values, cpu.values, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(cuda.mirrored, cpu.mirrored, rtol=2e-3, atol=2e-3)
