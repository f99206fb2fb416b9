"""Training leaves its arguments and the global state as it found them."""

import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.errors import DivergedError
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import predict
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.finder import RangeTest, find_lr
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import TrainingSetup, train
from glasshouse.training.state import Epoch, TrainingState, begin


def snapshot(net: nn.Module) -> dict[str, Any]:
    """Everything about a net and the process that must not change."""
    return {
        "weights": {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()},
        "grads": [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "modes": [module.training for module in net.modules()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in net.modules()],
        "torch random": torch.get_rng_state().tolist(),
        "numpy random": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "grad mode": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


AUGMENT = AugmentSettings(rotation_range=10, horizontal_flip=True, cutout=0.2, mixup=0.2)


def test_training_changes_nothing_but_what_it_returns(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    tiny_net.eval()
    tiny_net[0].train()  # type: ignore[index]
    images = copy.deepcopy(tiny_splits.train.pixels)
    before = snapshot(tiny_net)
    settings = TrainSettings(epochs=2, batch_size=16, ema_decay=0.9, device="cpu")
    classifier, _ = train_classifier(tiny_net, tiny_splits, settings, augment=AUGMENT)
    assert snapshot(tiny_net) == before
    assert np.array_equal(tiny_splits.train.pixels, images)
    assert classifier.net is not tiny_net


def test_diverging_training_changes_nothing(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    before = snapshot(tiny_net)
    settings = TrainSettings(epochs=2, batch_size=16, optimizer="sgd", lr=1e30, device="cpu")
    with pytest.raises(DivergedError):
        train_classifier(tiny_net, tiny_splits, settings, augment=AUGMENT)
    assert snapshot(tiny_net) == before


def test_predicting_changes_nothing(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    tiny_net.train()
    classifier = Classifier(tiny_net, Preprocessing(16, 16), tiny_splits.class_names)
    before = snapshot(tiny_net)
    predictions = predict(classifier, tiny_splits.test, batch_size=7)
    assert snapshot(tiny_net) == before
    assert np.allclose(predictions.logits, predict(classifier, tiny_splits.test).logits, atol=1e-5)


def test_the_finder_changes_nothing(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    settings = TrainSettings(batch_size=16, ema_decay=0.9, device="cpu")
    setup = TrainingSetup(
        tiny_splits.train, tiny_splits.validation, Preprocessing(16, 16), settings, AUGMENT
    )
    before = snapshot(tiny_net)
    find_lr(tiny_net, setup, test=RangeTest(steps=20, end=1e6))
    assert snapshot(tiny_net) == before


def test_a_failing_finder_changes_nothing(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    def fail(what: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    settings = TrainSettings(batch_size=16, lr="auto", device="cpu")
    setup = TrainingSetup(
        tiny_splits.train, tiny_splits.validation, Preprocessing(16, 16), settings, AUGMENT
    )
    images = copy.deepcopy(tiny_splits.train.pixels)
    before = snapshot(tiny_net)
    with pytest.raises(KeyboardInterrupt):
        find_lr(tiny_net, setup, test=RangeTest(steps=20), progress=fail)
    assert snapshot(tiny_net) == before
    assert np.array_equal(tiny_splits.train.pixels, images)


def test_the_finder_during_training_leaves_its_bytes_unchanged(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    """Weights, optimizer, BatchNorm statistics, random state and data order, to the end."""
    settings = TrainSettings(epochs=3, batch_size=16, ema_decay=0.9, device="cpu")
    setup = TrainingSetup(
        tiny_splits.train, tiny_splits.validation, Preprocessing(16, 16), settings, AUGMENT
    )
    ends = []
    for with_finder in (False, True):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        state = begin(tiny_net, settings, torch.device("cpu"))
        records = train(state, setup)
        seen = [next(records) for _ in range(8)]
        if with_finder:
            before = everything(state)
            find_lr(state.net, setup, test=RangeTest(steps=20, seeds=2))
            assert everything(state) == before
        seen += records
        # Times are the only thing that may differ.
        plain = [replace(r, seconds=0, images_per_second=0) if isinstance(r, Epoch) else r
                 for r in seen]  # fmt: skip
        ends.append((plain, everything(state)))
    assert ends[0] == ends[1]
    assert len(state.optimizer.state_dict()["state"]) > 0


def everything(state: TrainingState) -> dict[str, Any]:
    """All that training depends on, and the random state of the process."""
    optimizer = {
        f"{index}/{key}": value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
        for index, values in state.optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in state.optimizer.param_groups
    ]
    averaged = {name: t.numpy().tobytes() for name, t in (state.averaged or {}).items()}
    place = (state.epoch, state.step, state.seen, state.correct, state.loss_sum)
    return {
        "net": snapshot(state.net), "optimizer": optimizer, "groups": groups,
        "averaged": averaged, "place": place, "python random": random.getstate(),
    }  # fmt: skip
