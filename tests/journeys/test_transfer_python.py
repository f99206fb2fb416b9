"""Transfer learning in Python, through the public names alone."""

from importlib import import_module
from typing import Any

import numpy as np
import torch

from glasshouse.data.images import Splits

# The package imports its names lazily, so they have no types here.
glasshouse: Any = import_module("glasshouse")

SMALL = glasshouse.PretrainedSettings(name="resnet10t", weights="none", input_size=32)
TRAIN = glasshouse.TrainSettings(epochs=1, precision="fp32", device="cpu")


def test_features_and_a_head(tiny_splits: Splits) -> None:
    classifier = glasshouse.adapt(SMALL, tiny_splits.train).classifier
    extractor = glasshouse.make_extractor(classifier, tiny_splits.train, TRAIN)
    train = glasshouse.extract(extractor, tiny_splits.train, flips=True)
    held = glasshouse.extract(extractor, tiny_splits.validation)
    fits = glasshouse.fit_heads(train, held, glasshouse.HeadSettings(strengths=(0.01, 0.1)))
    best = glasshouse.best_head(fits)
    trained = glasshouse.with_head(classifier, best)
    answers = glasshouse.predict(trained, tiny_splits.validation).logits.argmax(axis=1)
    assert np.mean(answers == tiny_splits.validation.labels) == np.float32(best.validation_accuracy)


def test_gradual_training(tiny_splits: Splits) -> None:
    classifier = glasshouse.adapt(SMALL, tiny_splits.train).classifier
    transfer = glasshouse.TransferSettings(way="gradual", unfreeze=("head", "all"))
    setup = glasshouse.TrainingSetup(
        tiny_splits.train, tiny_splits.validation, classifier.preprocessing,
        TRAIN.model_copy(update={"epochs": 2}), glasshouse.AugmentSettings(),
    )  # fmt: skip
    state = glasshouse.begin_transfer(classifier.net, setup.settings, transfer, torch.device("cpu"))
    records = list(glasshouse.train_transfer(state, setup, transfer))
    assert sum(isinstance(record, glasshouse.Epoch) for record in records) == 2


def test_freezing_ones_own_network(tiny_net: torch.nn.Module) -> None:
    freezing = glasshouse.freeze(tiny_net, "head")
    assert str(freezing).startswith("trainable: 9 (1,028 of")
    glasshouse.unfreeze(tiny_net)
    assert all(parameter.requires_grad for parameter in tiny_net.parameters())
