"""The tutorial's networks and settings in Keras 3 itself, against ours; `make bench` runs it."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from glasshouse.models.backbone import head_layers
from glasshouse.models.pretrained import build_net
from glasshouse.recipe import load_recipe
from glasshouse.training.optimizers import build_optimizer
from glasshouse.training.schedules import learning_rate
from tests.test_tutorial_facts import NETWORKS, SCHEDULED, count, network

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BENCH = Path(__file__).parents[1] / "bench"
NAMES = {
    "Conv2D": "Conv2d", "MaxPooling2D": "MaxPool2d", "Flatten": "Flatten", "Dense": "Linear",
    "Dropout": "Dropout", "BatchNormalization": "BatchNorm2d",
}  # fmt: skip


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras on torch: what is asked here does not depend on the backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        return pytest.importorskip("keras", reason="needs the extra bench")


def in_keras(keras: Any, recipe: str) -> Any:
    """The network that the benchmarks compare ours with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        module = importlib.import_module("tutorial_keras")
    return keras.Sequential(module.layers_of(keras, recipe))


@pytest.mark.parametrize("recipe", NETWORKS)
def test_layers_have_the_kinds_shapes_and_parameters_of_keras(keras: Any, recipe: str) -> None:
    net = in_keras(keras, recipe)
    theirs = [
        (NAMES[type(layer).__name__], tuple(layer.output.shape[1:]), layer.count_params())
        for layer in net.layers
    ]
    # A ReLU is part of a layer there.
    assert theirs == [row for row in NETWORKS[recipe][0] if row[0] != "ReLU"]
    assert net.count_params() == NETWORKS[recipe][1]
    lines: list[str] = []
    net.summary(print_fn=lambda line, **_: lines.append(line))
    assert f"{NETWORKS[recipe][1]:,}" in "\n".join(lines)


@pytest.mark.parametrize("recipe", ["tutorial-basic", "tutorial-wide-bn"])
def test_weights_begin_with_the_same_distribution(keras: Any, recipe: str) -> None:
    ours = [module for module in network(recipe) if isinstance(module, nn.Conv2d | nn.Linear)]
    keras.utils.set_random_seed(0)
    layers = in_keras(keras, recipe).layers
    theirs = [layer for layer in layers if hasattr(layer, "kernel_initializer")]
    for module, layer in zip(ours, theirs, strict=True):
        assert type(layer.kernel_initializer).__name__ == "GlorotUniform"
        kernel, bias = (np.asarray(values) for values in layer.get_weights())
        assert module.bias is not None and not bias.any() and not module.bias.any()
        weight = module.weight.detach().numpy()
        assert weight.size == kernel.size
        assert np.abs(weight).max() == pytest.approx(np.abs(kernel).max(), rel=0.05)
        assert weight.std() == pytest.approx(kernel.std(), rel=0.1)


def test_batch_normalisation_keeps_the_same_statistics(keras: Any) -> None:
    (ours,) = (each for each in network("tutorial-wide-bn") if isinstance(each, nn.BatchNorm2d))
    theirs = keras.layers.BatchNormalization()
    assert ours.eps == theirs.epsilon
    assert ours.momentum == pytest.approx(1 - theirs.momentum)


def test_adam_has_the_same_constants(keras: Any) -> None:
    optimizer: Any = build_optimizer(nn.Linear(2, 2), load_recipe("tutorial-basic").train)
    theirs = keras.optimizers.Adam()
    for group in optimizer.param_groups:
        assert group["betas"] == (theirs.beta_1, theirs.beta_2)
        assert (group["eps"], group["amsgrad"]) == (theirs.epsilon, theirs.amsgrad)
    assert load_recipe("tutorial-basic").train.lr == pytest.approx(float(theirs.learning_rate))


@pytest.mark.parametrize("recipe", SCHEDULED)
def test_every_epoch_has_the_rate_that_its_scheduler_gives_it(keras: Any, recipe: str) -> None:
    def rate_of(epoch: int) -> float:
        if epoch > 10:
            return 0.00003
        return 0.00005 if epoch > 5 else 0.0001

    found = []

    class Noted(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found.append(float(self.model.optimizer.learning_rate))

    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    net.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
    callbacks = [keras.callbacks.LearningRateScheduler(rate_of), Noted()]
    net.fit(np.zeros((2, 2)), np.zeros((2, 1)), epochs=14, verbose=0, callbacks=callbacks)
    train = load_recipe(recipe, ["train.epochs=14"]).train
    assert found == pytest.approx([learning_rate(train, epoch) for epoch in range(14)], rel=1e-6)


def test_resnet50_is_theirs_but_for_the_biases_before_batch_normalisation(keras: Any) -> None:
    shape = (32, 32, 3)
    base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=shape)
    assert base.output.shape[1:] == (1, 1, 2048)
    layers = keras.layers
    head = [layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")]
    theirs = keras.Sequential([keras.Input(shape), base, *head])
    biases = sum(
        layer.filters
        for layer in base.layers
        if isinstance(layer, layers.Conv2D) and layer.use_bias
    )
    body = build_net("resnet50", 1000, {}, seed=0)
    dense = count(body.get_submodule("fc"))
    ours = count(body) - dense + sum(map(count, head_layers(2048, 10, hidden=None, dropout=0.2)))
    assert ours + biases == theirs.count_params()
    norms = [each for each in base.layers if isinstance(each, layers.BatchNormalization)]
    assert {(each.momentum, each.epsilon) for each in norms} == {(0.99, 1.001e-5)}
