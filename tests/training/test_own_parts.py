import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from glasshouse.data.images import Splits
from glasshouse.errors import DataError, UsageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.rng import derive
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training import own_parts
from glasshouse.training.finder import RangeTest, find_lr
from glasshouse.training.fit import train_classifier, untrained_classifier
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.own_parts import WantedBatches, _as_images, own_batches
from glasshouse.training.state import TrainingState, begin, load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
Net = nn.Sequential


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"epochs": 2, "batch_size": 16, "precision": "fp32", "device": "cpu"} | values
    )


def setup(splits: Splits, wanted: TrainSettings, **own: Any) -> TrainingSetup:
    augment = own.pop("augment", AugmentSettings())
    plain = Preprocessing(16, 16)
    return TrainingSetup(splits.train, splits.validation, plain, wanted, augment, **own)


def trained(net: nn.Module, splits: Splits, wanted: TrainSettings, **own: Any) -> TrainingState:
    state = begin(net, wanted, CPU)
    for _ in train(state, setup(splits, wanted, **own)):
        pass
    return state


def in_order(splits: Splits) -> Callable[[int], list[tuple[Tensor, Tensor]]]:
    """Six batches of 16, in the order of the images, turned by the epoch."""
    pixels, labels = torch.from_numpy(splits.train.pixels), torch.from_numpy(splits.train.labels)

    def source(epoch: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.arange(96).roll(epoch).view(6, 16)
        return [(pixels[chosen], labels[chosen]) for chosen in order]

    return source


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Lin et al. 2017, a value per image."""
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    return (1 - (-entropy).exp()) ** 2 * entropy


def rmsprop(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(net.parameters(), lr=2e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("epochs", r"epochs is a setting: expected TrainSettings\(epochs=2\) after the splits"),
        ("learning_rate", r"no argument or setting 'learning_rate'. Did you mean 'lr'\?"),
        ("horizontal_flip", "It is a key of AugmentSettings"),
        ("batch", r"no argument or setting 'batch'. Did you mean 'batches'\?"),
        ("callbacks", "no argument or setting 'callbacks'.$"),
    ],
)
def test_a_setting_passed_as_an_argument_is_told_where_it_belongs(
    tiny_net: Net, tiny_splits: Splits, name: str, message: str
) -> None:
    wrong: Any = {name: 2}
    with pytest.raises(UsageError, match=message):
        train_classifier(tiny_net, tiny_splits, **wrong)


@pytest.mark.usefixtures("torch_dropout")
def test_own_batches_loss_and_optimizer_do_what_a_plain_loop_does(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    source = in_order(tiny_splits)
    ours = trained(tiny_net, tiny_splits, settings(), batches=source, loss=focal, optimizer=rmsprop)
    net = begin(tiny_net, settings(), CPU).net.train()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=2e-3)
    means = []
    for epoch in range(2):
        losses = []
        for step, (images, labels) in enumerate(source(epoch)):
            torch.manual_seed(derive(0, "dropout", epoch, step))
            logits = net((images / 255).contiguous(memory_format=torch.channels_last))
            loss = focal(logits, labels).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        means.append(np.mean(losses))
    assert [epoch.train_loss for epoch in ours.history] == pytest.approx(means, rel=1e-5)
    for one, other in zip(ours.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    validation = torch.from_numpy(tiny_splits.validation.pixels) / 255
    with torch.no_grad():
        logits = net.eval()(validation)
    expected = focal(logits, torch.from_numpy(tiny_splits.validation.labels)).mean()
    assert ours.history[-1].validation_loss == pytest.approx(float(expected), rel=1e-4)


def test_our_own_batches_passed_as_others_train_the_same_weights(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    from glasshouse.data.batches import batches, prepare_images

    data = prepare_images(tiny_splits.train, CPU)

    def source(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        usual = batches(data, AugmentSettings(), batch_size=16, seed=0, epoch=epoch)
        return ((batch.images, batch.labels) for batch in usual)

    ours = trained(tiny_net, tiny_splits, settings())
    others = trained(tiny_net, tiny_splits, settings(), batches=source)
    assert [replace(e, seconds=0, images_per_second=0) for e in ours.history] == [
        replace(e, seconds=0, images_per_second=0) for e in others.history
    ]
    for one, other in zip(ours.net.parameters(), others.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_cross_entropy_of_the_users_trains_the_same_weights(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    ours = trained(tiny_net, tiny_splits, settings())
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")):
        theirs = trained(tiny_net, tiny_splits, settings(), loss=loss)
        for one, other in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
            assert torch.equal(one, other)


def test_mixed_images_and_class_weights_act_on_a_loss_per_image(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    mixing = AugmentSettings.model_validate({"mixup": 0.4})
    weights = (0.5, 1.5, 1.0, 1.0)
    ours = trained(tiny_net, tiny_splits, settings(), augment=mixing, class_weights=weights)
    per_image, mean = nn.CrossEntropyLoss(reduction="none"), nn.CrossEntropyLoss()
    theirs = trained(
        tiny_net, tiny_splits, settings(), augment=mixing, class_weights=weights, loss=per_image
    )
    for one, other in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(UsageError, match="mixed images need a value per image"):
        trained(tiny_net, tiny_splits, settings(), augment=mixing, loss=mean)
    with pytest.raises(UsageError, match="class weights need a value per image"):
        trained(tiny_net, tiny_splits, settings(), class_weights=weights, loss=mean)


def test_soft_labels_go_to_a_loss_of_the_users(tiny_net: Net, tiny_splits: Splits) -> None:
    def source(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in in_order(tiny_splits)(epoch):
            yield images, functional.one_hot(labels, 4) * 0.9 + 0.025

    state = trained(tiny_net, tiny_splits, settings(), batches=source, loss=nn.CrossEntropyLoss())
    assert 0 <= state.history[-1].train_accuracy <= 1
    with pytest.raises(DataError, match=r"float32 \(16, 4\); for other labels pass a loss"):
        trained(tiny_net, tiny_splits, settings(), batches=source)


def test_accuracy_is_unknown_for_labels_that_are_no_classes(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    def source(epoch: int) -> Iterator[tuple[Tensor, Any]]:
        for images, labels in in_order(tiny_splits)(epoch):
            yield images, {"class": labels}

    def loss(logits: Tensor, labels: Any) -> Tensor:
        return functional.cross_entropy(
            logits, labels["class"] if isinstance(labels, dict) else labels
        )

    state = trained(tiny_net, tiny_splits, settings(), batches=source, loss=loss)
    assert math.isnan(state.history[-1].train_accuracy)
    assert math.isfinite(state.history[-1].train_loss)


def test_the_schedule_scales_the_learning_rates_of_an_own_optimizer(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    seen: list[list[float]] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def make(net: nn.Module) -> torch.optim.Optimizer:
        children = list(net.children())
        return Watched(
            [
                {"params": [p for c in children[:-1] for p in c.parameters()], "lr": 0.01},
                {"params": children[-1].parameters(), "lr": 0.1},
            ]
        )

    wanted = settings(schedule={"type": "cosine"})
    state = begin(tiny_net, wanted, CPU)
    steps = [r for r in train(state, setup(tiny_splits, wanted, optimizer=make))
             if isinstance(r, Step)]  # fmt: skip
    factors = [(1 + math.cos(math.pi * i / 12)) / 2 for i in range(12)]
    final = wanted.schedule.final  # type: ignore[union-attr]
    expected = [final + (1 - final) * factor for factor in factors]
    assert [step.lr for step in steps] == pytest.approx([0.1 * factor for factor in expected])
    assert [rates[0] for rates in seen] == pytest.approx([0.01 * factor for factor in expected])


def test_a_rate_of_the_users_is_that_of_the_highest_group(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    state = begin(tiny_net, settings(), CPU)
    own = setup(tiny_splits, settings(), optimizer=rmsprop, rate=lambda epoch: 0.5 / (epoch + 1))
    steps = [record for record in train(state, own) if isinstance(record, Step)]
    assert [step.lr for step in steps] == [0.5] * 6 + [0.25] * 6
    assert state.optimizer.param_groups[0]["lr"] == 0.25


def test_listed_rates_are_scaled_to_that_of_an_own_optimizer(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    listed = {"type": "per_epoch", "rates": [0.02, 0.04]}
    wanted = settings(schedule=listed)
    course = setup(tiny_splits, wanted, optimizer=rmsprop)  # of 0.002
    records = train(begin(tiny_net, wanted, CPU), course)
    rates = {each.epoch: each.lr for each in records if isinstance(each, Step)}
    assert rates == {1: pytest.approx(0.001), 2: 0.002}


def test_train_classifier_takes_own_parts_and_finds_a_rate_for_them(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    own: dict[str, Any] = {"batches": in_order(tiny_splits), "loss": focal, "optimizer": rmsprop}
    untrained = untrained_classifier(tiny_net, tiny_splits, seed=0)
    found = find_lr(
        untrained.net, setup(tiny_splits, settings(), **own), test=RangeTest(steps=40, seeds=1)
    )
    assert math.isnan(found.guess_loss) and found.lrs[0] == pytest.approx(1e-5)
    classifier, epochs = train_classifier(tiny_net, tiny_splits, settings(lr="auto"), **own)
    assert epochs[-1].lr not in (2e-3, 1e-3) and epochs[-1].lr > 0
    assert classifier.predict(tiny_splits.test).names


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (torch.optim.SGD(nn.Linear(1, 1).parameters()), "not those of the copy"),
        (torch.optim.RMSprop, "the class RMSprop"),
        (partial(torch.optim.SGD, lr=0.1), "takes weights, not a network"),
        ("sgd", "received a str"),
        (lambda net: None, "returns None"),
        (lambda net: torch.optim.LBFGS(net.parameters()), "LBFGS"),
        (
            lambda net: torch.optim.SGD(nn.Linear(1, 1).parameters()),
            "no weights of the network that is trained",
        ),
    ],
)
def test_an_optimizer_that_would_not_train_the_network_is_refused(
    tiny_net: Net, tiny_splits: Splits, make: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        trained(tiny_net, tiny_splits, settings(), optimizer=make)


def test_a_state_that_was_trained_keeps_its_optimizer(tiny_net: Net, tiny_splits: Splits) -> None:
    state = begin(tiny_net, settings(), CPU)
    usual = setup(tiny_splits, settings())
    next(train(state, usual))
    with pytest.raises(UsageError, match="begin a new one"):
        next(train(state, replace(usual, optimizer=rmsprop)))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (nn.NLLLoss(), "log-probabilities"),
        (functional.nll_loss, "log-probabilities"),
        (nn.BCEWithLogitsLoss(), r"failed on logits \(16, 4\) and labels int64 \(16,\)"),
        (lambda logits: logits.sum(), "the loss failed on"),
        (lambda logits, labels: logits, r"it returned float32 \(16, 4\)"),
        (lambda logits, labels: 0.5, "it returned a float"),
        (lambda logits, labels: logits.detach().mean(), "has no gradient"),
    ],
)
def test_a_loss_that_is_none_is_refused(
    tiny_net: Net, tiny_splits: Splits, loss: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        trained(tiny_net, tiny_splits, settings(), loss=loss)


IMAGES = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
ANSWERS = torch.arange(4)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([(IMAGES, ANSWERS)], r"received a list\. For a DataLoader pass from_dataloader"),
        (lambda epoch: None, r"batches\(0\): expected an iterable"),
        (lambda epoch: [], r"batches\(0\) yields nothing"),
        (lambda epoch: [IMAGES], r"batch 1: expected \(images, labels\), received a Tensor"),
        (lambda epoch: [(IMAGES.permute(0, 2, 3, 1), ANSWERS)], r"\.permute\(0, 3, 1, 2\)"),
        (lambda epoch: [(torch.rand(4, 3, 16, 16), ANSWERS)], "look scaled"),
        (lambda epoch: [(torch.randn(4, 3, 16, 16), ANSWERS)], "look scaled"),
        (lambda epoch: [((IMAGES + 1).float(), ANSWERS)], "look scaled"),
        (lambda epoch: [(IMAGES[:, :1], ANSWERS)], r"\.expand\(-1, 3, -1, -1\)"),
        (lambda epoch: [(IMAGES[:, :, :8], ANSWERS)], "of 16x16 pixels.*received 8x16"),
        (lambda epoch: [(IMAGES, ANSWERS[:3])], r"expected labels \(4,\).*received int64 \(3,\)"),
        (lambda epoch: [(IMAGES, ANSWERS + 1)], "expected labels 0 to 3, received 1 to 4"),
        (lambda epoch: [(IMAGES, ANSWERS.float())], "whole numbers, received float32"),
        (lambda epoch: [(IMAGES, ["a", "b", "c", "d"])], "whole numbers, received a list"),
    ],
)
def test_batches_that_would_train_on_something_else_are_refused(
    tiny_net: Net, tiny_splits: Splits, batches: Any, words: str
) -> None:
    with pytest.raises((UsageError, DataError), match=words):
        trained(tiny_net, tiny_splits, settings(), batches=batches)


def test_nearly_black_images_are_no_scaled_ones(tiny_net: Net, tiny_splits: Splits) -> None:
    images = torch.rand(4, 3, 16, 16) * 7
    state = trained(tiny_net, tiny_splits, settings(), batches=lambda epoch: [(images, ANSWERS)])
    assert state.history[-1].epoch == 2


def test_class_weights_need_classes_whatever_the_loss(tiny_net: Net, tiny_splits: Splits) -> None:
    soft = functional.one_hot(ANSWERS, 4).float()
    own = {"loss": nn.CrossEntropyLoss(reduction="none"), "class_weights": (1.0, 1.0, 1.0, 1.0)}
    with pytest.raises(DataError, match=r"float32 \(4, 4\).*and no class weights"):
        trained(tiny_net, tiny_splits, settings(), batches=lambda epoch: [(IMAGES, soft)], **own)


def test_gradients_of_weights_that_an_own_optimizer_leaves_alone_do_not_count_when_clipped(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    """Frozen or only left out, the rest of the network makes no difference."""

    def head(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(net.parameters())[-2:], lr=0.1)

    def frozen(net: nn.Module) -> torch.optim.Optimizer:
        for parameter in list(net.parameters())[:-2]:
            parameter.requires_grad_(False)
        return head(net)

    clipped = settings(gradient_clip=0.05)
    one, other = (trained(tiny_net, tiny_splits, clipped, optimizer=o) for o in (head, frozen))
    for mine, theirs in zip(one.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_iterator_that_is_used_up_after_one_epoch_is_refused(
    tiny_net: Net, tiny_splits: Splits
) -> None:
    once = iter(in_order(tiny_splits)(0))
    with pytest.raises(DataError, match=r"batches\(1\) yields nothing: expected a new iterable"):
        trained(tiny_net, tiny_splits, settings(), batches=lambda epoch: once)


def test_arrays_are_batches_as_well(tiny_net: Net, tiny_splits: Splits) -> None:
    train_set = tiny_splits.train

    def source(epoch: int) -> list[Any]:
        return [(train_set.pixels[i : i + 16], train_set.labels[i : i + 16]) for i in (0, 16, 32)]

    state = begin(tiny_net, settings(), CPU)
    steps = [r for r in train(state, setup(tiny_splits, settings(), batches=source))
             if isinstance(r, Step)]  # fmt: skip
    assert [(s.step, s.steps, s.images) for s in steps[:3]] == [(1, 3, 16), (2, 3, 32), (3, 3, 48)]


@pytest.mark.parametrize(
    ("change", "own", "words"),
    [
        ({"label_smoothing": 0.1}, {"loss": focal}, r"train\.label_smoothing acts in the built-in"),
        ({"sampling": "balanced"}, {"batches": list}, r"train\.sampling acts on the built-in"),
        ({"shards": 2}, {"batches": list}, r"train\.shards acts on the built-in batches only"),
        (
            {},
            {"batches": list, "augment": AugmentSettings(horizontal_flip=True)},
            "augmentation acts on",
        ),
    ],
)
def test_settings_without_effect_are_refused(
    tiny_net: Net, tiny_splits: Splits, change: Any, own: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        trained(tiny_net, tiny_splits, settings(**change), **own)


def test_batches_that_depend_on_the_epoch_alone_resume_exactly(
    tiny_net: Net, tiny_splits: Splits, tmp_path: Any
) -> None:
    own = setup(
        tiny_splits, settings(), batches=in_order(tiny_splits), loss=focal, optimizer=rmsprop
    )
    whole = begin(tiny_net, own.settings, CPU)
    list(train(whole, own))
    first = begin(tiny_net, own.settings, CPU)
    for number, _ in enumerate(train(first, own), 1):
        if number == 4:
            break
    save_checkpoint(first, tmp_path)
    second = begin(tiny_net, own.settings, CPU)
    from glasshouse.training.loop import use_own_optimizer

    use_own_optimizer(second, own)
    assert load_checkpoint(second, tmp_path)
    list(train(second, own))
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.history[-1].train_loss == second.history[-1].train_loss


@pytest.mark.parametrize(
    ("low", "high", "is_scaled"),
    [
        (0.0, 1.0, True),
        (0.0, 1.01, False),
        (-0.01, 10.0, True),
        (-0.01, 10.01, False),
        (0.0, 9.5, False),
        (-5.0, 0.0, True),
        (0.0, 0.0, False),
    ],
)
def test_images_look_scaled_within_one_or_with_negative_values_within_ten(
    low: float, high: float, is_scaled: bool
) -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0, 0, :2] = torch.tensor([low, high])
    if is_scaled:
        with pytest.raises(DataError, match="look scaled"):
            _as_images(images, "batch 1")
    else:
        assert torch.equal(_as_images(images, "batch 1"), images)


@pytest.mark.parametrize(
    ("labels", "is_changed"),
    [
        (torch.tensor([[0, 1], [1, 1]]), True),
        (torch.tensor([[0.0, 1.0]]), True),
        (torch.tensor([[0, 2]]), False),
        (torch.tensor([[0.5, 1.0]]), False),
        (torch.tensor([[-1, 1]]), False),
        (torch.tensor([0, 1]), False),
        (torch.tensor([[[0, 1]]]), False),
        (torch.tensor([[True, False]]), False),
        ([[0, 1]], False),
    ],
)
def test_zeros_and_ones_of_each_label_are_truth_values(labels: Any, is_changed: bool) -> None:
    found = own_parts.as_truth(labels)
    if is_changed:
        assert found.dtype == torch.bool and torch.equal(found, labels == 1)
    else:
        assert found is labels


@pytest.mark.parametrize(
    ("labels", "is_refused"),
    [
        (torch.tensor([0, 3, 1]), ""),
        (torch.tensor([0, 3, 1], dtype=torch.uint8), ""),
        (torch.tensor([0, 4, 1]), "expected labels 0 to 3, received 0 to 4"),
        (torch.tensor([0, 3, -1]), "expected labels 0 to 3, received -1 to 3"),
        (torch.tensor([0, 3]), r"expected labels (3,) as whole numbers, received int64 (2,); for"),
        (torch.tensor([0.0, 3, 1]), "as whole numbers, received float32 (3,); for other labels"),
        (torch.tensor([0, 3, 1j]), "as whole numbers, received complex64 (3,); for other labels"),
        (torch.zeros(3, 4).bool(), "as whole numbers, received bool (3, 4); for other labels pass"),
        ([0, 3, 1], "as whole numbers, received a list; for other labels pass a loss of your own"),
    ],
)
def test_labels_of_the_built_in_loss_are_positions_of_classes(labels: Any, is_refused: str) -> None:
    if not is_refused:
        found = own_parts.as_labels(labels, (3, 4), "here")
        assert found.dtype == torch.int64 and found.tolist() == [0, 3, 1]
        return
    with pytest.raises(DataError, match="here: .*" + re.escape(is_refused)):
        own_parts.as_labels(labels, (3, 4), "here")


def test_labels_of_no_images_and_of_several_labels_are_taken() -> None:
    assert len(own_parts.as_labels(torch.empty(0, dtype=torch.int64), (0, 4), "here")) == 0
    truth = torch.ones(3, 4).bool()
    assert own_parts.as_labels(truth, (3, 4), "here", are_several=True) is truth
    for wrong in (truth[:2], truth.int(), truth[:, :3]):
        with pytest.raises(DataError, match=r"here: expected labels \(3, 4\) of 0 and 1, one for"):
            own_parts.as_labels(wrong, (3, 4), "here", are_several=True)


def test_rates_of_groups_keep_their_ratios_and_the_highest_is_known() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def make(own: nn.Module) -> torch.optim.Optimizer:
        first, second = own.children()
        return torch.optim.SGD(
            [{"params": first.parameters(), "lr": 0.1}, {"params": second.parameters(), "lr": 0.4}]
        )

    optimizer = own_parts.own_optimizer(net, make)
    assert own_parts.own_rate(optimizer) == 0.4
    assert [group["lr_factor"] for group in optimizer.param_groups] == [0.25, 1.0]
    higher = own_parts.with_rate(make, 2.0)(net)
    assert [group["lr"] for group in higher.param_groups] == [0.5, 2.0]
    assert own_parts.own_rate(torch.optim.SGD(net.parameters(), lr=0.1)) is None
    still = own_parts.own_optimizer(net, lambda own: torch.optim.SGD(own.parameters(), lr=0.0))
    assert [group["lr_factor"] for group in still.param_groups] == [1.0]


def one_batch(labels: Any, epoch: int) -> list[Any]:
    return [(IMAGES, labels)]


def test_labels_are_checked_before_they_are_brought_to_the_device() -> None:
    # Values on the meta device cannot be read.
    meta, truth = torch.device("meta"), functional.one_hot(ANSWERS, 4)
    for labels, is_several, classes, expected in (
        (ANSWERS.int(), False, 4, torch.int64),
        (ANSWERS.int(), False, None, torch.int32),
        (truth, True, 4, torch.bool),
        (truth.numpy(), True, None, torch.bool),
    ):
        wanted = WantedBatches((16, 16), meta, is_several, classes)
        found, count = own_batches(partial(one_batch, labels), 0, 0, wanted)
        (batch,) = found
        assert batch.images.is_meta and batch.labels.is_meta and count == 1
        assert batch.labels.dtype == expected
    found, _ = own_batches(
        lambda epoch: [(IMAGES, ANSWERS + 1)], 0, 0, WantedBatches((16, 16), meta, False, 4)
    )
    with pytest.raises(
        DataError, match=r"batches\(0\), batch 1: expected labels 0 to 3, received 1"
    ):
        next(found)
