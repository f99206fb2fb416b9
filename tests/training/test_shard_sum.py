"""Steps over shards, in one process: against plain torch, and the same bytes when resumed."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glasshouse.data.batches import Cut, batches, prepare_images
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import RecipeError, UsageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.recipe import load_recipe
from glasshouse.rng import derive
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.fit import train_until_done
from glasshouse.training.loop import Step, TrainingSetup, train, update
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.shard_sum import _flat, _like
from glasshouse.training.state import Epoch, TrainingState, begin, load_checkpoint, save_checkpoint
from tests.training.at_once import at_once

CPU = torch.device("cpu")
PLAIN = AugmentSettings()
MIXED = AugmentSettings(rotation_range=10, horizontal_flip=True, mixup=0.3, cutmix=0.5)


def settings(**values: Any) -> TrainSettings:
    usual = {"epochs": 2, "batch_size": 16, "shards": 4, "precision": "fp32", "device": "cpu"}
    return TrainSettings.model_validate({**usual, "optimizer": "sgd", "lr": 0.05} | values)


def setup(splits: Splits, wanted: TrainSettings, augment: AugmentSettings = PLAIN) -> TrainingSetup:
    return TrainingSetup(splits.train, splits.validation, Preprocessing(16, 16), wanted, augment)


def state_bytes(state: TrainingState) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in state.net.state_dict().values())


@pytest.mark.parametrize("is_last", [False, True])
def test_a_gradient_of_another_layout_takes_the_order_of_its_parameter(is_last: bool) -> None:
    first = torch.arange(24.0).view(2, 3, 2, 2)
    last = first.contiguous(memory_format=torch.channels_last)
    gradient, parameter = (first, last) if is_last else (last, first)
    found = _flat(gradient, parameter)
    expected = first.permute(0, 2, 3, 1) if is_last else first
    assert found.tolist() == expected.flatten().tolist()
    assert torch.equal(_like(found, parameter), first)


@pytest.mark.usefixtures("torch_dropout")
@pytest.mark.parametrize("images", [96, 90])
def test_a_step_is_that_of_plain_torch_over_the_shards(
    tiny_net: nn.Module, tiny_splits: Splits, images: int
) -> None:
    # 90 images leave a last batch of 10, in shards of 2 and 3.
    splits = replace(tiny_splits, train=take(tiny_splits.train, slice(images)))
    wanted = settings(epochs=1)
    given = setup(splits, wanted)
    state = begin(tiny_net, wanted, CPU)
    plain = copy.deepcopy(state.net).train()
    data = prepare_images(given.train, CPU, cut=given.cut)
    found = list(batches(data, PLAIN, batch_size=16, seed=0, epoch=0))
    assert [len(batch.positions) for batch in found[:-1]] == [16] * 5
    batch = found[-1]
    before = {name: buffer.clone() for name, buffer in plain.named_buffers()}
    means = {name: torch.zeros_like(buffer) for name, buffer in before.items()}
    for shard in batch.shards:
        plain.load_state_dict(before, strict=False)
        torch.manual_seed(derive(0, "dropout", 0, batch.step, shard.number))
        pixels = torch.from_numpy(splits.train.pixels[shard.positions]).float() / 255
        labels = torch.from_numpy(splits.train.labels[shard.positions])
        loss = cross_entropy(plain(pixels), labels, reduction="sum") / len(batch.positions)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, buffer in plain.named_buffers():
            means[name] = means[name] + buffer * shard.share
    torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True).step()
    plain.load_state_dict(means, strict=False)
    update(state, batch, given, 0.05)
    ours = state.net.state_dict()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-5)
    assert ours["1.num_batches_tracked"] == 1


@pytest.mark.parametrize("loss_type", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_written_where_others_read_them_if_float32_holds_them(
    tiny_net: nn.Module, tiny_splits: Splits, dtype: torch.dtype, loss_type: torch.dtype
) -> None:
    places: list[Tensor] = []
    summed: list[Tensor] = []

    class Noting(ProcessGroup):
        def place(self, count: int) -> Tensor:
            places.append(torch.full((count,), torch.nan))
            return places[-1]

        def sum(self, own: Tensor, *, changes: bool = True) -> Tensor:
            summed.append(own)
            return own.clone()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits.to(loss_type), labels)

    wanted = settings(epochs=1)
    tiny_net.register_buffer("table", torch.zeros(2, dtype=dtype))
    states = []
    for group in (ProcessGroup(), Noting()):
        state = begin(tiny_net, wanted, CPU)
        given = replace(setup(tiny_splits, wanted), group=group, loss=loss)
        data = prepare_images(given.train, CPU, cut=given.cut)
        for batch in batches(data, PLAIN, batch_size=16, seed=0, epoch=0):
            update(state, batch, given, 0.05)
        states.append(state_bytes(state))
    assert states[0] == states[1]
    if dtype == torch.float32:
        assert {each.dtype for each in summed} == {torch.float32}
        assert len(places) == len(summed) == 6
        assert all(a is b for a, b in zip(places, summed, strict=True))
    else:
        assert not places and summed[0].dtype == torch.float64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shards", [2, 4])
def test_a_pass_writes_large_gradients_in_their_place_with_the_same_bytes(
    tiny_splits: Splits, shards: int, precision: str
) -> None:
    places: list[Tensor] = []
    kept: list[bool] = []

    class Noting(ProcessGroup):
        def place(self, count: int) -> Tensor:
            places.append(torch.full((count,), torch.nan))
            return places[-1]

    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 256), nn.ReLU(), nn.Linear(256, 4))
    wanted = settings(epochs=1, precision=precision, optimizer="adam", shards=shards)
    states = []
    for group in (ProcessGroup(), Noting()):
        state = begin(net, wanted, CPU)
        weight = state.net.get_parameter("1.weight")
        weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            lambda p: kept.append(bool(places) and p.grad.data_ptr() == places[-1].data_ptr())
        )
        for _ in train(state, replace(setup(tiny_splits, wanted), group=group)):
            pass
        states.append(state_bytes(state))
    assert states[0] == states[1]
    # Of every batch, the first shard's.
    assert kept == [False] * 6 * shards + [True, *[False] * (shards - 1)] * 6


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("name", ["adam", "sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_leave_the_bytes_of_one_in_memory_that_they_share(
    tiny_splits: Splits, name: str, shards: int, precision: str
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 128), nn.Linear(128, 4)
    )
    wanted = settings(precision=precision, optimizer=name, lr=0.01, shards=shards)

    def trained(group: ProcessGroup) -> bytes:
        state = begin(net, wanted, CPU)
        given = replace(setup(tiny_splits, wanted), group=group)
        data = prepare_images(given.train, CPU, cut=given.cut)
        for epoch in range(3):
            for batch in batches(data, PLAIN, batch_size=16, seed=0, epoch=epoch):
                update(state, batch, given, 0.01)
        return state_bytes(state)

    both, _ = at_once(2, lambda memory: trained(ProcessGroup(memory.rank, 2, memory)))
    assert both == [trained(ProcessGroup())] * 2


@pytest.mark.parametrize(
    ("own", "values", "changes"),
    [
        (None, {}, False),
        (None, {"optimizer": "adam", "ema_decay": 0.9}, False),
        (None, {"gradient_clip": 1.0}, True),
        (lambda net: torch.optim.SGD(net.parameters(), 0.05), {}, True),
    ],
)
def test_processes_share_gradients_that_nothing_changes(
    tiny_net: nn.Module, tiny_splits: Splits, own: Any, values: dict[str, Any], changes: bool
) -> None:
    said = []

    class Noting(ProcessGroup):
        def sum(self, own: Tensor, *, changes: bool = True) -> Tensor:
            said.append(changes)
            return own

    wanted = settings(epochs=1, **values)
    given = replace(setup(tiny_splits, wanted), group=Noting(), optimizer=own)
    for _ in train(begin(tiny_net, wanted, CPU), given):
        pass
    assert said == [changes] * 6


def test_without_batch_norm_and_dropout_shards_change_only_rounding(tiny_splits: Splits) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 4))
    histories = []
    for shards in (1, 2, 8):
        wanted = settings(shards=shards, gradient_clip=0.5)
        state = begin(net, wanted, CPU)
        for _ in train(state, setup(tiny_splits, wanted)):
            pass
        histories.append(state.history)
    for history in histories[1:]:
        for one, other in zip(histories[0], history, strict=True):
            assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)
            assert other.train_accuracy == one.train_accuracy
            assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-4)


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_shard_is_the_same_wherever_it_is_made(tiny_images: ImageSet, epoch: int) -> None:
    def made(own: range) -> dict[tuple[int, int], list[bytes]]:
        data = prepare_images(tiny_images, CPU, "balanced", Cut(4, own))
        found = batches(data, MIXED, batch_size=16, seed=0, epoch=epoch)
        return {
            (batch.step, shard.number): [
                shard.images.numpy().tobytes(), shard.labels.numpy().tobytes(),
                shard.own_share.numpy().tobytes(),
            ]
            for batch in found for shard in batch.shards if shard.own_share is not None
        }  # fmt: skip

    whole = made(range(4))
    assert len(whole) == 16
    assert made(range(2)) | made(range(2, 4)) == whole
    assert made(range(1)) | made(range(1, 2)) | made(range(2, 3)) | made(range(3, 4)) == whole


def test_the_partners_of_mixed_images_are_in_the_same_shard(tiny_images: ImageSet) -> None:
    data = prepare_images(tiny_images, CPU, cut=Cut(4, range(4)))
    for batch in batches(data, MIXED, batch_size=16, seed=0, epoch=0):
        for shard in batch.shards:
            assert shard.partner_labels is not None
            assert shard.partner_labels.tolist() == np.roll(shard.labels.numpy(), 1).tolist()
        together = np.concatenate([shard.positions for shard in batch.shards])
        assert together.tolist() == batch.positions.tolist()
        assert sum(shard.share for shard in batch.shards) == pytest.approx(1)


@pytest.mark.parametrize("stop", [1, 5, 6, 8])
def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bytes(
    tiny_net: nn.Module, tiny_splits: Splits, stop: int, tmp_path: Any
) -> None:
    wanted = settings(ema_decay=0.9, keep="best", sampling="balanced", optimizer="adamw", lr=0.01)
    given = setup(tiny_splits, wanted, MIXED)
    whole, part, rest = (begin(tiny_net, wanted, CPU) for _ in range(3))
    for _ in train_until_done(whole, given):
        pass
    steps = 0
    for record in train_until_done(part, given):
        steps += isinstance(record, Step)
        if steps == stop:
            break
    save_checkpoint(part, tmp_path)
    load_checkpoint(rest, tmp_path)
    for _ in train_until_done(rest, given):
        pass
    assert state_bytes(rest) == state_bytes(whole)


def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        state = begin(tiny_net, settings(), CPU)
        records = train(state, setup(tiny_splits, settings(), MIXED))
        assert all(torch.get_num_threads() == threads for _ in records)
        found.append((state_bytes(state), [epoch.validation_loss for epoch in state.history]))
    assert found[0] == found[1]


def test_a_loss_that_is_not_finite_names_the_images_of_the_whole_batch(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wanted = settings(lr=1e30, epochs=1)
    with pytest.raises(Exception, match=r"The batch had the images train/.* and 8 more"):
        list(train(begin(tiny_net, wanted, CPU), setup(tiny_splits, wanted)))


def test_constant_buffers_stay_as_they_are(tiny_splits: Splits) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([0.1, 0.3, 0.7]).view(1, 3, 1, 1))
            self.register_buffer("index", torch.arange(7))
            self.head = nn.Linear(3 * 16 * 16, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scaled = images * self.get_buffer("scale")
            return self.head(scaled.flatten(1))  # type: ignore[no-any-return]

    splits = replace(tiny_splits, train=take(tiny_splits.train, slice(92)))
    state = begin(Scaled(), settings(), CPU)
    epochs = list(train(state, setup(splits, settings())))
    assert isinstance(epochs[-1], Epoch)
    assert torch.equal(state.net.scale.flatten(), torch.tensor([0.1, 0.3, 0.7]))  # type: ignore
    assert torch.equal(state.net.index, torch.arange(7))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.shards=3", r"train.shards = 3: expected a power of two"),
        ("train.batch_size=36", r"expected a multiple of 8, such as 32"),
        ("train.batch_size=4", r"expected a multiple of 8, such as 8"),
    ],
)
def test_shards_that_cut_nothing_evenly_are_refused(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("small-cnn", ["train.shards=4", change])


def test_too_few_images_for_the_shards_are_refused(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    splits = replace(tiny_splits, train=take(tiny_splits.train, slice(7)))
    with pytest.raises(UsageError, match="8 in all, but there are 7"):
        list(train(begin(tiny_net, settings(), CPU), setup(splits, settings())))


def test_batches_of_ones_own_are_not_cut(tiny_net: nn.Module, tiny_splits: Splits) -> None:
    given = replace(setup(tiny_splits, settings()), batches=lambda epoch: [])
    with pytest.raises(UsageError, match=r"train\.shards acts on the built-in batches only"):
        list(train(begin(tiny_net, settings(), CPU), given))
