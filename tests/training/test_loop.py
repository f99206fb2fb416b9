import copy
import itertools
import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DivergedError, RecipeError, UsageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training import loop
from glasshouse.training.fit import train_classifier, train_until_done
from glasshouse.training.loop import Step, TrainingSetup, _account, train
from glasshouse.training.optimizers import build_optimizer, set_learning_rate
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.schedules import EveryStep, learning_rate
from glasshouse.training.state import (
    Epoch,
    TrainingState,
    begin,
    copy_weights,
    final_net,
    has_stalled,
    is_best,
)

CPU = torch.device("cpu")


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"epochs": 3, "batch_size": 16, "precision": "fp32", "device": "cpu", "lr": 3e-3} | values
    )


def setup(splits: Splits, wanted: TrainSettings, **augment: Any) -> TrainingSetup:
    return TrainingSetup(
        splits.train, splits.validation, Preprocessing(16, 16), wanted, AugmentSettings(**augment)
    )


def trained(net: nn.Module, splits: Splits, wanted: TrainSettings, **augment: Any) -> TrainingState:
    state = begin(net, wanted, CPU)
    for _ in train_until_done(state, setup(splits, wanted, **augment)):
        pass
    return state


def weights(net: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.01, "label_smoothing": 0.1},
        {"optimizer": "sgd", "lr": 0.05, "schedule": {"type": "one_cycle"}, "gradient_clip": 1.0},
        {"optimizer": "muon", "lr": 0.1, "schedule": {"type": "one_cycle"}},
        {"ema_decay": 0.9, "warmup_epochs": 1},
        {"precision": "bf16"},
    ],
)
def test_a_tiny_network_learns(tiny_net: nn.Module, tiny_splits: Splits, values: Any) -> None:
    state = trained(tiny_net, tiny_splits, settings(epochs=6, **values))
    assert [epoch.epoch for epoch in state.history] == [1, 2, 3, 4, 5, 6]
    assert state.history[-1].validation_accuracy == 1.0
    assert state.history[-1].train_loss < state.history[0].train_loss


@pytest.mark.usefixtures("torch_dropout")
@pytest.mark.parametrize(
    "values", [{}, {"label_smoothing": 0.2, "gradient_clip": 0.3, "warmup_epochs": 1}]
)
def test_the_first_losses_are_those_of_a_plain_loop(
    tiny_net: nn.Module, tiny_splits: Splits, values: dict[str, float]
) -> None:
    """An independent few lines of PyTorch: the same data order, loss and updates."""
    from glasshouse.rng import derive, keys_of, permutation

    wanted = settings(epochs=1, optimizer="sgd", lr=0.05, **values)
    ours = trained(tiny_net, tiny_splits, wanted)
    images = tiny_splits.train
    order = permutation(0, "order", 0, keys_of(images.ids))
    net = begin(tiny_net, wanted, CPU).net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses, norms = [], []
    for step in range(6):
        chosen = order[step * 16 : (step + 1) * 16]
        pixels = torch.from_numpy(images.pixels[chosen]) / 255
        torch.manual_seed(derive(0, "dropout", 0, step))
        loss = nn.functional.cross_entropy(
            net(pixels),
            torch.from_numpy(images.labels[chosen]),
            label_smoothing=values.get("label_smoothing", 0.0),
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        limit = values.get("gradient_clip", math.inf)
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), limit)))
        optimizer.param_groups[0]["lr"] = 0.05 * (step / 6 if "warmup_epochs" in values else 1)
        optimizer.step()
        losses.append(loss.item())
    assert max(norms) > 0.3, "clipping would change nothing"
    assert ours.history[0].train_loss == pytest.approx(np.mean(losses), rel=1e-4)
    for one, other in zip(ours.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_no_step_is_longer_than_the_clipped_gradient(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    def vector(net: nn.Module) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    def longest_step(**values: Any) -> float:
        wanted = settings(epochs=1, optimizer="sgd", lr=1.0, momentum=0.0, **values)
        state = begin(tiny_net, wanted, CPU)
        before = vector(state.net)
        lengths = []
        for record in train(state, setup(tiny_splits, wanted)):
            if isinstance(record, Step):
                after = vector(state.net)
                lengths.append(float((after - before).norm()))
                before = after
        return max(lengths)

    assert longest_step() > 0.1
    assert longest_step(gradient_clip=0.01) == pytest.approx(0.01, rel=1e-3)


def test_every_step_has_the_rate_of_its_own_point_of_the_schedule(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(epochs=3, schedule={"type": "cosine"}, warmup_epochs=1)
    records = list(train(begin(tiny_net, wanted, CPU), setup(tiny_splits, wanted)))
    found = [record.lr for record in records if isinstance(record, Step)]
    assert found == pytest.approx([learning_rate(wanted, step / 6) for step in range(18)])
    assert all(one != other for one, other in itertools.pairwise(found))
    # What an epoch records is the rate of its last step.
    assert [record.lr for record in records if isinstance(record, Epoch)] == found[5::6]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    first = trained(tiny_net, tiny_splits, settings(), rotation_range=10)
    torch.manual_seed(99)
    again = trained(tiny_net, tiny_splits, settings(), rotation_range=10)
    other = trained(tiny_net, tiny_splits, settings(seed=1), rotation_range=10)
    assert weights(first.net) == weights(again.net)
    assert weights(first.net) != weights(other.net)


def test_steps_and_epochs_come_in_order(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    wanted = settings(epochs=2)
    records = list(train(begin(tiny_net, wanted, CPU), setup(tiny_splits, wanted)))
    assert [type(record) for record in records] == 2 * ([Step] * 6 + [Epoch])
    steps = [record for record in records if isinstance(record, Step)]
    assert [(step.epoch, step.step, step.steps, step.images) for step in steps[:2]] == [
        (1, 1, 6, 16),
        (1, 2, 6, 32),
    ]


def test_a_rate_function_is_called_once_per_epoch_as_by_keras(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(epochs=3)
    calls: list[int] = []

    def schedule(epoch: int) -> float:
        calls.append(epoch)
        return 0.001 if epoch > 1 else 0.01

    followed = replace(setup(tiny_splits, wanted), rate=schedule)
    steps = [r for r in train(begin(tiny_net, wanted, CPU), followed) if isinstance(r, Step)]
    # Called with fractions, `epoch > 1` would hold in the second epoch.
    assert [step.lr for step in steps] == 12 * [0.01] + 6 * [0.001]
    assert calls == [0, 1, 2]
    assert all(type(epoch) is int for epoch in calls)


def test_a_rate_may_change_within_an_epoch(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    wanted = settings(epochs=1)
    followed = replace(setup(tiny_splits, wanted), rate=EveryStep(lambda epoch: 0.1 - 0.06 * epoch))
    steps = [r for r in train(begin(tiny_net, wanted, CPU), followed) if isinstance(r, Step)]
    assert [step.lr for step in steps] == pytest.approx([0.1, 0.09, 0.08, 0.07, 0.06, 0.05])


def test_a_rate_function_replaces_the_schedule(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    wanted = settings(epochs=2)
    plain = setup(tiny_splits, wanted)
    followed = TrainingSetup(
        plain.train, plain.validation, plain.preprocessing, wanted, plain.augment,
        rate=lambda epoch: 0.01 if epoch < 1 else 0.001,
    )  # fmt: skip
    steps = [r for r in train(begin(tiny_net, wanted, CPU), followed) if isinstance(r, Step)]
    assert [step.lr for step in steps] == 6 * [0.01] + 6 * [0.001]


def test_a_loss_that_is_not_finite_names_the_images(
    tiny_net: nn.Sequential, tiny_splits: Splits
) -> None:
    wanted = settings(optimizer="sgd", lr=1e30)
    state = begin(tiny_net, wanted, CPU)
    with pytest.raises(DivergedError, match=r"epoch 1, step \d.*train/\d{4}.*Lower train\.lr"):
        list(train(state, setup(tiny_splits, wanted)))


def test_one_image_per_batch_that_cannot_be_normalised_is_a_named_error(
    tiny_splits: Splits,
) -> None:
    normalised = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    for batch_size in (1, 2):
        wanted = settings(epochs=1, batch_size=batch_size)
        with pytest.raises(UsageError, match="batch_size=2") if batch_size == 1 else nullcontext():
            list(train(begin(normalised, wanted, CPU), setup(tiny_splits, wanted)))


class Explodes(nn.Module):
    """Answers infinity in evaluation mode for images whose first pixel is white."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        white = inputs[:, :1, 0, 0] == 1
        return logits if self.training else logits.masked_fill(white, float("inf"))


def test_a_validation_loss_that_is_not_finite_names_the_images_and_keeps_nothing(
    tiny_net: nn.Sequential, tiny_splits: Splits
) -> None:
    wanted = settings(epochs=2)
    plain = setup(tiny_splits, wanted)
    pixels = plain.validation.pixels.copy()
    pixels[3, :, 0, 0] = 255
    state = begin(Explodes(tiny_net), wanted, CPU)
    where = f"after epoch 1. The answers for {plain.validation.ids[3]} are not finite"
    with pytest.raises(DivergedError, match=where):
        list(train(state, replace(plain, validation=replace(plain.validation, pixels=pixels))))
    assert state.history == []


def test_validation_images_are_never_augmented(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    from glasshouse.models.predict import predict_logits

    state = trained(tiny_net, tiny_splits, settings(epochs=1), cutout=0.9, brightness_range=0.9)
    images = tiny_splits.validation
    logits = predict_logits(state.net, Preprocessing(16, 16), images.pixels)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(images.labels)).item()
    assert state.history[0].validation_loss == pytest.approx(loss, rel=1e-5)


def test_balanced_sampling_is_for_training_images_alone(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    from glasshouse.models.predict import predict_logits

    def skewed(images: ImageSet) -> ImageSet:
        return take(images, np.flatnonzero((images.labels != 3) | (np.arange(len(images)) < 8)))

    splits = replace(
        tiny_splits, train=skewed(tiny_splits.train), validation=skewed(tiny_splits.validation)
    )
    wanted = settings(epochs=2, sampling="balanced")
    state = begin(tiny_net, wanted, CPU)
    records = list(train(state, setup(splits, wanted)))
    # An epoch stays as long as it was: 74 images in batches of 16.
    assert [r.images for r in records if isinstance(r, Step)] == 2 * [16, 32, 48, 64, 74]
    logits = predict_logits(state.net, Preprocessing(16, 16), splits.validation.pixels)
    labels = torch.from_numpy(splits.validation.labels)
    assert np.bincount(labels.numpy()).tolist() == [8, 8, 8, 2]
    found = state.history[-1]
    assert found.validation_loss == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_training_in_one_call_weights_the_classes_on_request(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    labels = tiny_splits.train.labels
    kept = np.flatnonzero((labels == 0) | (np.arange(len(labels)) % 10 == 0))
    splits = replace(tiny_splits, train=take(tiny_splits.train, kept))
    ends = [
        weights(train_classifier(tiny_net, splits, settings(epochs=1, class_weights=how))[0].net)
        for how in ("none", "none", "balanced")
    ]
    assert ends[0] == ends[1] != ends[2]


def test_balancing_twice_is_refused() -> None:
    from glasshouse.recipe import load_recipe

    balanced = ["train.sampling=balanced", "train.class_weights=balanced"]
    for one in balanced:
        load_recipe("small-cnn", [one])
    with pytest.raises(RecipeError, match=r"compensate for rare classes twice: choose one"):
        load_recipe("small-cnn", balanced)


def test_the_average_follows_its_definition(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    wanted = settings(epochs=1, ema_decay=0.75)
    state = begin(tiny_net, wanted, CPU)
    name = "0.weight"
    expected = state.net.state_dict()[name].clone()
    for record in train(state, setup(tiny_splits, wanted)):
        if isinstance(record, Step):
            expected = 0.75 * expected + 0.25 * state.net.state_dict()[name]
    assert state.averaged is not None
    assert torch.allclose(state.averaged[name], expected, atol=1e-6)
    assert torch.equal(final_net(state).state_dict()[name], state.averaged[name])


def test_keep_best_ends_with_the_weights_of_the_lowest_validation_loss(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(epochs=4, keep="best", optimizer="sgd", lr=5.0,
                      schedule={"type": "per_epoch", "rates": [0.05, 0.05, 5.0, 5.0]})  # fmt: skip
    state = begin(tiny_net, wanted, CPU)
    best: bytes = b""
    for record in train(state, setup(tiny_splits, wanted)):
        if isinstance(record, Epoch) and is_best(record, state.history[:-1]):
            best = weights(state.net)
    losses = [epoch.validation_loss for epoch in state.history]
    assert int(np.argmin(losses)) < 3
    assert weights(final_net(state)) == best != weights(state.net)


def test_averaged_weights_are_what_is_measured_and_what_the_best_epoch_keeps(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    from glasshouse.models.predict import predict_logits

    wanted = settings(epochs=4, keep="best", ema_decay=0.5, optimizer="sgd", lr=5.0,
                      schedule={"type": "per_epoch", "rates": [0.05, 0.05, 5.0, 5.0]})  # fmt: skip
    state = begin(tiny_net, wanted, CPU)
    images = tiny_splits.validation
    averages: list[dict[str, torch.Tensor]] = []
    for record in train(state, setup(tiny_splits, wanted)):
        if isinstance(record, Epoch):
            assert state.averaged is not None
            averages.append({name: value.clone() for name, value in state.averaged.items()})
            measured = copy.deepcopy(state.net)
            measured.load_state_dict(averages[-1])
            logits = predict_logits(measured, Preprocessing(16, 16), images.pixels)
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(images.labels)).item()
            assert record.validation_loss == pytest.approx(loss, rel=1e-5)
    best = int(np.argmin([epoch.validation_loss for epoch in state.history]))
    # Neither the last averages nor the weights that were trained.
    assert best < 3
    kept = copy_weights(final_net(state))
    assert all(torch.equal(kept[name], value) for name, value in averages[best].items())
    assert not torch.equal(kept["0.weight"], averages[-1]["0.weight"])


def test_early_stopping_ends_after_its_patience(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    wanted = settings(epochs=50, early_stopping=2, optimizer="sgd", lr=1e-12, momentum=0.0)
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    state = trained(frozen, tiny_splits, wanted)
    assert len(state.history) < 50
    assert has_stalled(state.history, 2)
    assert not has_stalled(state.history[:-1], 2)


def test_stalling_is_counted_from_the_best_epoch() -> None:
    def history(*losses: float) -> list[Epoch]:
        return [Epoch(i + 1, 0, 0, loss, 0, 0, 0, 0) for i, loss in enumerate(losses)]

    assert not has_stalled(history(3, 2, 1), 2)
    assert not has_stalled(history(3, 1, 2), 2)
    assert has_stalled(history(3, 1, 2, 1), 2)
    assert not has_stalled(history(1, 2), 2)
    assert not math.isnan(history(1)[0].validation_loss)


def test_optimizers_are_those_of_keras_where_they_are_alike(tiny_net: nn.Module) -> None:
    def group(**values: Any) -> Any:
        return build_optimizer(tiny_net, settings(**values)).param_groups[0]

    for name in ("adam", "adamw"):
        assert group(optimizer=name)["eps"] == 1e-7
        assert group(optimizer=name)["betas"] == (0.9, 0.999)
    assert group(optimizer="adamw", weight_decay=0.01)["weight_decay"] == 0.01
    fast, plain = (group(optimizer="sgd", momentum=momentum) for momentum in (0.8, 0.0))
    assert (fast["momentum"], fast["nesterov"]) == (0.8, True)
    assert (plain["momentum"], plain["nesterov"]) == (0.0, False)


def test_biases_have_their_own_learning_rate_and_no_decay(tiny_net: nn.Module) -> None:
    settings = TrainSettings(optimizer="sgd", lr=0.1, bias_lr_factor=64, weight_decay=0.01)
    optimizer = build_optimizer(tiny_net, settings)
    set_learning_rate(optimizer, 0.5)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in tiny_net.named_parameters():
        expected = (0.5, 0.01) if parameter.ndim > 1 else (32.0, 0.0)
        assert found[id(parameter)] == expected, name


class ReadsFromTheDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations for whose results a device must be waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(part in str(func) for part in ("_local_scalar_dense", "nonzero")):
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_reads_from_the_device_until_the_results_are_read(
    tiny_net: nn.Module, tiny_splits: Splits, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glasshouse.training.results._EVERY_SECONDS", math.inf)
    wanted = settings(precision=precision, ema_decay=0.9, gradient_clip=1.0, label_smoothing=0.1)
    course = setup(tiny_splits, wanted, rotation_range=10, horizontal_flip=True, mixup=0.2)
    course = replace(course, class_weights=(1.0,) * len(tiny_splits.class_names))
    state = begin(tiny_net, wanted, CPU)
    steps = train(state, course)
    assert isinstance(next(steps), Step)
    with ReadsFromTheDevice() as reads:
        assert isinstance(next(steps), Step)
    assert not reads.found and state.loss_sum == 0
    with ReadsFromTheDevice() as reads:
        state.read_results()
        assert float(next(iter(state.net.parameters())).detach().sum()) != 0
    assert reads.found and 0 < state.loss_sum < math.inf


@pytest.mark.parametrize("count", [8, 9])
def test_at_most_eight_images_are_named(tiny_splits: Splits, count: int) -> None:
    batch: Any = SimpleNamespace(positions=np.arange(count))
    ids = tiny_splits.train.ids
    more = " and 1 more" if count == 9 else ""
    assert loop._names_of(batch, setup(tiny_splits, settings())) == (
        f"The batch had the images {', '.join(ids[:8])}{more}."
    )


def test_a_step_keeps_its_results_without_gradients() -> None:
    added: list[Any] = []
    state: Any = SimpleNamespace(epoch=2, step=0, seen=0, unread=SimpleNamespace(add=added.append))
    for step in range(6):
        batch: Any = SimpleNamespace(step=step, labels=torch.zeros(4 + step))
        logits = torch.zeros(4 + step, 3, requires_grad=True)
        course: Any = None
        _account(state, torch.tensor(0.5, requires_grad=True), logits, batch, course)
    assert (state.step, state.seen) == (6, sum(range(4, 10)))
    assert [(each.epoch, each.step) for each in added] == [(3, step) for step in range(1, 7)]
    assert not any(each.loss.requires_grad or each.logits.requires_grad for each in added)
    assert [len(each.labels) for each in added] == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("every", "expected"), [(1, [2, 3, 4, 5, 6]), (3, [3, 6])])
def test_processes_learn_at_the_same_steps_that_one_is_asked_to_stop(
    tiny_net: nn.Module,
    tiny_splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    expected: list[int],
) -> None:
    # The other process, with the same gradients, is asked before the second step.
    summed: list[torch.Tensor] = []

    def both(group: ProcessGroup, own: torch.Tensor, *, changes: bool) -> torch.Tensor:
        summed.append(own)
        other = own.clone()
        other[-1] = float(len(summed) >= 2)
        return own + other

    monkeypatch.setattr(ProcessGroup, "sum", both)
    times = itertools.cycle([False] * (every - 1) + [True])
    monkeypatch.setattr(loop, "when_read", lambda unread, group, device: times)
    wanted = settings(shards=2, batch_size=8)
    course = replace(setup(tiny_splits, wanted), group=ProcessGroup(0, 2))
    steps = itertools.islice(train(begin(tiny_net, wanted, CPU), course), 6)
    found = [isinstance(step, Step) and step.is_asked_to_stop for step in steps]
    assert [number for number, is_asked in enumerate(found, 1) if is_asked] == expected
    assert [float(own[-1]) for own in summed] == [0] * 6


def test_a_process_tells_the_others_that_it_is_asked_to_stop(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def kept(group: ProcessGroup, own: torch.Tensor, *, changes: bool) -> torch.Tensor:
        told.append(float(own[-1]))
        return own

    monkeypatch.setattr(ProcessGroup, "sum", kept)
    wanted = settings(shards=2, batch_size=8)
    course = replace(
        setup(tiny_splits, wanted),
        group=ProcessGroup(0, 2),
        is_asked_to_stop=lambda: len(told) >= 2,
    )
    steps = itertools.islice(train(begin(tiny_net, wanted, CPU), course), 4)
    found = [isinstance(step, Step) and step.is_asked_to_stop for step in steps]
    assert told == [0, 0, 1, 1] and found == [False, False, True, True]


def test_a_signal_during_a_step_is_told_with_that_step(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come: list[bool] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        has_come.append(True)
        return nn.functional.cross_entropy(logits, labels)

    monkeypatch.setattr(ProcessGroup, "sum", lambda group, own, changes: own)
    wanted = settings(shards=2, batch_size=8)
    course = replace(
        setup(tiny_splits, wanted),
        loss=loss,
        group=ProcessGroup(0, 2),
        is_asked_to_stop=lambda: bool(has_come),
    )
    step = next(train(begin(tiny_net, wanted, CPU), course))
    assert isinstance(step, Step) and step.is_asked_to_stop


def test_a_process_that_is_alone_leaves_it_to_its_caller_when_to_stop(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(shards=2, batch_size=8)
    course = replace(setup(tiny_splits, wanted), is_asked_to_stop=lambda: True)
    steps = itertools.islice(train(begin(tiny_net, wanted, CPU), course), 4)
    assert not any(isinstance(step, Step) and step.is_asked_to_stop for step in steps)
