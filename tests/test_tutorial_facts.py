"""The tutorial's networks and settings, computed by hand from its text, against ours."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import ImageSet
from glasshouse.models.backbone import head_layers
from glasshouse.models.layers import build
from glasshouse.models.pretrained import build_net
from glasshouse.recipe import load_recipe
from glasshouse.settings import AugmentSettings
from glasshouse.training.fit import fit_preprocessing
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.schedules import learning_rate

# Layer, output shape as Keras prints it (height, width, channels), parameters.
Row = tuple[str, tuple[int, ...], int]
BASIC: list[Row] = [
    ("Conv2d", (32, 32, 6), 3 * 3 * 3 * 6 + 6),
    ("ReLU", (32, 32, 6), 0),
    ("Conv2d", (30, 30, 16), 3 * 3 * 6 * 16 + 16),
    ("ReLU", (30, 30, 16), 0),
    ("MaxPool2d", (15, 15, 16), 0),
    ("Conv2d", (15, 15, 16), 3 * 3 * 16 * 16 + 16),
    ("ReLU", (15, 15, 16), 0),
    ("Conv2d", (13, 13, 32), 3 * 3 * 16 * 32 + 32),
    ("ReLU", (13, 13, 32), 0),
    ("MaxPool2d", (6, 6, 32), 0),
    ("Flatten", (1152,), 0),
    ("Linear", (512,), 1152 * 512 + 512),
    ("ReLU", (512,), 0),
    ("Dropout", (512,), 0),
    ("Linear", (10,), 512 * 10 + 10),
]
WIDE: list[Row] = [
    ("Conv2d", (32, 32, 32), 896),
    ("ReLU", (32, 32, 32), 0),
    ("Conv2d", (30, 30, 32), 9_248),
    ("ReLU", (30, 30, 32), 0),
    ("MaxPool2d", (15, 15, 32), 0),
    ("Conv2d", (15, 15, 64), 18_496),
    ("ReLU", (15, 15, 64), 0),
    ("Conv2d", (13, 13, 128), 73_856),
    ("ReLU", (13, 13, 128), 0),
    ("MaxPool2d", (6, 6, 128), 0),
    ("Flatten", (4608,), 0),
    ("Linear", (512,), 2_359_808),
    ("ReLU", (512,), 0),
    ("Dropout", (512,), 0),
    ("Linear", (10,), 5_130),
]
# Keras counts the moving mean and variance as parameters that are not trained.
BN: list[Row] = [*WIDE[:4], ("BatchNorm2d", (30, 30, 32), 4 * 32), *WIDE[4:]]

NETWORKS = {
    "tutorial-basic": (BASIC, 603_474),
    "tutorial-basic-no-augment": (BASIC, 603_474),
    "tutorial-wide": (WIDE, 2_467_434),
    "tutorial-wide-fixed-lr": (WIDE, 2_467_434),
    "tutorial-wide-schedule": (WIDE, 2_467_434),
    "tutorial-wide-bn": (BN, 2_467_562),
}
SCHEDULED = ("tutorial-wide-schedule", "tutorial-wide-bn", "tutorial-resnet50")
RECIPES = (*NETWORKS, "tutorial-resnet50")


def network(recipe: str) -> nn.Sequential:
    return build(load_recipe(recipe).model, 10, (3, 32, 32), seed=0)


def count(module: nn.Module) -> int:
    """Parameters as Keras counts them, with the statistics of batch normalisation."""
    values = [v for name, v in module.state_dict().items() if "num_batches" not in name]
    return sum(value.numel() for value in values)


@pytest.mark.parametrize("recipe", NETWORKS)
def test_every_layer_has_the_shape_and_the_parameters_of_the_tutorial(recipe: str) -> None:
    expected, total = NETWORKS[recipe]
    found: list[Row] = []
    values = torch.rand(1, 3, 32, 32)
    net = network(recipe).eval()
    for module in net:
        values = module(values)
        found.append((type(module).__name__, (*values.shape[2:], values.shape[1]), count(module)))
    assert found == expected
    assert count(net) == total == sum(parameters for _, _, parameters in expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_learning_rate_of_every_epoch_is_that_of_the_tutorial(recipe: str) -> None:
    train = load_recipe(recipe, ["train.epochs=14"]).train
    rates = [learning_rate(train, epoch + part) for epoch in range(14) for part in (0.0, 0.999)]
    if recipe in SCHEDULED:
        # `epoch > 5` of epochs counted from 0: the seventh is the first with the lower rate.
        assert rates[::2] == [1e-4] * 6 + [5e-5] * 5 + [3e-5] * 3
    else:
        rate = 1e-4 if recipe == "tutorial-wide-fixed-lr" else 1e-3
        assert rates[::2] == [rate] * 14
    assert rates[1::2] == rates[::2]  # constant within an epoch


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_settings_of_training_are_those_of_the_tutorial(recipe: str) -> None:
    found = load_recipe(recipe)
    optimizer: Any = build_optimizer(nn.Linear(2, 2), found.train)
    # Ours differs in what it imports only.
    assert type(optimizer).__base__ is torch.optim.Adam
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-7, 0)
        assert group["amsgrad"] is False
    assert found.train.epochs == 10
    assert found.train.batch_size == (128 if recipe == "tutorial-resnet50" else 32)
    assert (found.train.keep, found.train.label_smoothing, found.train.gradient_clip) == (
        "last", 0.0, None,
    )  # fmt: skip
    augmented = AugmentSettings(
        rotation_range=15, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    assert augmented.fill_mode == "nearest"
    is_plain = recipe == "tutorial-basic-no-augment"
    assert found.augment == (AugmentSettings() if is_plain else augmented)
    wide = recipe.startswith("tutorial-wide")
    assert found.model.scaling == ("standardize_global" if wide else "rescale")


@pytest.mark.parametrize("recipe", NETWORKS)
def test_initial_weights_dropout_and_batch_normalisation_are_those_of_keras(recipe: str) -> None:
    net = network(recipe)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            assert not module.bias.any()
            weight = module.weight.detach()
            inside, outside = weight[0].numel(), weight[:, 0].numel()
            limit = math.sqrt(6 / (inside + outside))
            assert float(weight.abs().max()) <= limit * (1 + 1e-6)
            # A uniform distribution up to the limit has the deviation limit / sqrt(3).
            assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.1)
        if isinstance(module, nn.Dropout):
            assert module.p == 0.5
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == pytest.approx(0.01)  # Keras's 0.99 keeps the old statistics
            assert (module.eps, module.affine) == (1e-3, True)


def test_the_wide_network_is_standardised_by_one_mean_and_one_deviation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 6), dtype=np.uint8)
    pixels[:, 1] //= 4  # channels of different levels, which the tutorial does not tell apart
    ids = np.array([str(number) for number in range(20)])
    images = ImageSet(pixels, np.zeros(20, dtype=np.int64), ids, ("a",))
    found = fit_preprocessing(images, "standardize_global")
    values = pixels.astype(np.float64) / 255
    assert found.mean == pytest.approx([values.mean()] * 3, abs=1e-6)  # six decimals are kept
    assert found.std == pytest.approx([values.std()] * 3, abs=1e-6)
    each = fit_preprocessing(images, "standardize")
    assert each.mean == pytest.approx(values.mean(axis=(0, 2, 3)), abs=1e-6)


def test_resnet50_sees_32_pixels_rescaled_and_has_dropout_before_its_one_dense_layer() -> None:
    recipe = load_recipe("tutorial-resnet50")
    found = recipe.model.pretrained
    assert found is not None
    assert (found.name, found.weights, found.input_size) == ("resnet50", "usual", 32)
    assert (found.mean, found.std, found.stem, recipe.data.image_size) == (0.0, 1.0, "kept", 32)
    dropout, dense = head_layers(2048, 10, hidden=found.hidden, dropout=found.dropout)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.2
    assert count(dense) == 2048 * 10 + 10
    assert (recipe.transfer.way, recipe.transfer.trainable) == ("tune", "all")
    # Keras counts the share of the old statistics.
    body = build_net(found.name, 10, found.arguments)
    norms = [each for each in body.modules() if isinstance(each, nn.BatchNorm2d)]
    assert {(1 - each.momentum, each.eps) for each in norms if each.momentum} == {(0.99, 1.001e-5)}
    assert len(norms) == 53
