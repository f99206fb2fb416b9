import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits, take
from glasshouse.errors import StorageError
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.loop import TrainingSetup, train
from glasshouse.training.state import (
    Epoch,
    TrainingState,
    begin,
    copy_weights,
    final_net,
    finished_epochs,
    has_stalled,
    is_best,
    load_checkpoint,
    save_checkpoint,
    using_weights,
    weights_of_checkpoint,
)
from tests.training.test_loop import CPU, weights


def made(splits: Splits, **values: Any) -> TrainingSetup:
    wanted = TrainSettings.model_validate(
        {"epochs": 3, "batch_size": 16, "precision": "fp32", "device": "cpu"} | values
    )
    augment = AugmentSettings(rotation_range=10, horizontal_flip=True, mixup=0.2)
    return TrainingSetup(splits.train, splits.validation, Preprocessing(16, 16), wanted, augment)


def run(state: TrainingState, setup: TrainingSetup, steps: int | None = None) -> None:
    for done, _ in enumerate(train(state, setup), start=1):
        if done == steps:
            return


def plain(tensors: dict[str, torch.Tensor] | None) -> Any:
    return tensors and {name: tensor.tolist() for name, tensor in tensors.items()}


EVERY_PART = [
    {},
    {"optimizer": "sgd", "lr": 0.05, "schedule": {"type": "one_cycle"}},
    {"ema_decay": 0.9, "keep": "best", "optimizer": "adamw"},
    {"precision": "bf16"},
    {"sampling": "balanced"},
    {"optimizer": "muon", "lr": 0.05},
]


@pytest.mark.parametrize("values", EVERY_PART)
@pytest.mark.parametrize("stop_after", [1, 5, 6, 7, 11, 20])
def test_stopping_anywhere_and_resuming_ends_with_the_same_bytes(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path, values: Any, stop_after: int
) -> None:
    # Classes of 24, 24, 24 and 4 images.
    few = np.flatnonzero((tiny_splits.train.labels != 3) | (np.arange(96) < 16))
    setup = made(replace(tiny_splits, train=take(tiny_splits.train, few)), **values)
    whole = begin(tiny_net, setup.settings, CPU)
    run(whole, setup)
    first = begin(tiny_net, setup.settings, CPU)
    run(first, setup, stop_after)
    save_checkpoint(first, tmp_path)
    second = begin(tiny_net, setup.settings, CPU)
    assert load_checkpoint(second, tmp_path)
    run(second, setup)
    assert weights(second.net) == weights(whole.net)
    assert plain(second.averaged) == plain(whole.averaged)
    assert plain(second.best) == plain(whole.best)
    for one, other in zip(second.history, whole.history, strict=True):
        assert one.train_loss == other.train_loss
        assert one.train_accuracy == other.train_accuracy
        assert one.validation_loss == other.validation_loss


def resumed(net: nn.Module, splits: Splits, folder: Path, device: str) -> TrainingState:
    """A state with averaged and best weights, saved after an epoch and loaded again."""
    setup = made(splits, ema_decay=0.9, keep="best", device=device)
    first = begin(net, setup.settings, torch.device(device))
    run(first, setup, 7)
    save_checkpoint(first, folder)
    second = begin(net, setup.settings, torch.device(device))
    assert load_checkpoint(second, folder)
    return second


def require_placed_like_the_net(state: TrainingState) -> None:
    assert state.averaged and state.best
    for name, own in state.net.state_dict().items():
        for tensors in (state.averaged, state.best):
            assert tensors[name].device == own.device, name
            assert tensors[name].dtype == own.dtype, name
            assert tensors[name].stride() == own.stride(), name


def test_loaded_averages_are_placed_like_the_weights(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    # On the CPU it is the layout in memory that tells a tensor that was placed from one that
    # was taken as the file had it.
    state = resumed(tiny_net, tiny_splits, tmp_path, "cpu")
    assert not state.net.state_dict()["4.weight"].is_contiguous()
    require_placed_like_the_net(state)


@pytest.mark.gpu
def test_a_run_with_averaged_weights_resumes_on_a_gpu(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    state = resumed(tiny_net, tiny_splits, tmp_path, "cuda")
    require_placed_like_the_net(state)
    run(state, made(tiny_splits, ema_decay=0.9, keep="best", device="cuda"), 7)


def test_an_empty_folder_leaves_a_new_state(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    state = begin(tiny_net, made(tiny_splits).settings, CPU)
    assert not load_checkpoint(state, tmp_path)


def three_checkpoints(net: nn.Module, splits: Splits, folder: Path) -> list[Path]:
    setup = made(splits)
    state = begin(net, setup.settings, CPU)
    for record in train(state, setup):
        if type(record).__name__ == "Epoch":
            save_checkpoint(state, folder)
    return sorted(folder.iterdir())


def test_the_newest_and_the_one_before_are_kept(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    paths = three_checkpoints(tiny_net, tiny_splits, tmp_path)
    assert [path.name[:13] for path in paths] == ["00002-0000000", "00003-0000000"]


def test_any_damage_is_noticed_and_the_one_before_is_used(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    newest = three_checkpoints(tiny_net, tiny_splits, tmp_path)[-1]
    whole = newest.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(random.integers(8))
        for damaged in (bytes(flipped), whole[:place]):
            newest.write_bytes(damaged)
            state = begin(tiny_net, made(tiny_splits).settings, CPU)
            assert load_checkpoint(state, tmp_path)
            assert state.epoch == 2


def test_damage_to_every_checkpoint_is_an_error(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    for path in three_checkpoints(tiny_net, tiny_splits, tmp_path):
        path.write_bytes(b"")
    with pytest.raises(StorageError, match=r"every checkpoint in .* is damaged"):
        load_checkpoint(begin(tiny_net, made(tiny_splits).settings, CPU), tmp_path)


def test_a_full_disk_leaves_earlier_checkpoints_intact(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = three_checkpoints(tiny_net, tiny_splits, tmp_path)
    contents = [path.read_bytes() for path in before]
    state = begin(tiny_net, made(tiny_splits).settings, CPU)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            save_checkpoint(state, tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert [path.read_bytes() for path in before] == contents
    assert load_checkpoint(state, tmp_path)
    assert state.epoch == 3


def test_a_new_state_leaves_the_callers_network_unchanged(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    before = weights(tiny_net)
    setup = made(tiny_splits)
    state = begin(tiny_net, setup.settings, CPU)
    run(state, setup, 8)
    assert weights(tiny_net) == before
    assert all(parameter.grad is None for parameter in tiny_net.parameters())
    assert not torch.equal(next(state.net.parameters()), next(tiny_net.parameters()))


def history_of(*losses: float) -> list[Epoch]:
    return [Epoch(n, 0, 0, loss, 0, 0, 0, 0) for n, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("losses", "patience", "has_stopped"),
    [
        ((), 1, False), ((2,), 1, False), ((2, 1), 1, False), ((2, 2), 1, True), ((2, 3), 1, True),
        ((2, 3, 1), 1, False), ((2, 3, 1), 2, False), ((2, 1, 3, 1), 2, True),
        ((2, 1, 3), 2, False), ((2, 3, 3), 2, True), ((2, 3), 2, False), ((2, 3, 1, 1, 1), 2, True),
        ((2, 3, 3, 3), 3, True), ((2, 3, 3), 3, False),
    ],
)  # fmt: skip
def test_a_training_has_stalled_after_as_many_epochs_without_a_new_best(
    losses: tuple[float, ...], patience: int, has_stopped: bool
) -> None:
    assert has_stalled(history_of(*losses), patience) == has_stopped
    best = [is_best(each, history_of(*losses)[:n]) for n, each in enumerate(history_of(*losses))]
    assert best == [all(loss < x for x in losses[:n]) for n, loss in enumerate(losses)]


def test_the_final_weights_are_the_best_else_the_average_else_the_last(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    state = begin(tiny_net, made(tiny_splits, ema_decay=0.5).settings, CPU)
    name = next(iter(state.net.state_dict()))

    def first_value(net: nn.Module) -> float:
        assert not net.training
        return float(net.state_dict()[name].flatten()[0])

    last = float(state.net.state_dict()[name].flatten()[0])
    state.net.train()
    assert state.averaged is not None
    state.averaged[name] = state.averaged[name] + 1
    assert first_value(final_net(state)) == pytest.approx(last + 1)
    state.best = {**state.averaged, name: state.averaged[name] + 1}
    assert first_value(final_net(state)) == pytest.approx(last + 2)
    state.best = state.averaged = None
    assert first_value(final_net(state)) == last
    assert state.net.training
    # Without one asked for, no average is kept.
    assert begin(tiny_net, made(tiny_splits).settings, CPU).averaged is None


def test_other_weights_are_used_within_a_context_only(tiny_net: nn.Module) -> None:
    before = copy_weights(tiny_net)
    other = {name: value + 1 for name, value in before.items()}
    with pytest.raises(KeyError), using_weights(tiny_net, other):
        assert plain(copy_weights(tiny_net)) == plain(other)
        raise KeyError
    with using_weights(tiny_net, None):
        assert plain(copy_weights(tiny_net)) == plain(before)
    assert plain(copy_weights(tiny_net)) == plain(before)


def test_checkpoints_at_the_end_of_epochs_are_known_by_their_number(
    tiny_net: nn.Module, tiny_splits: Splits, tmp_path: Path
) -> None:
    for average in (None, 0.5):
        folder = tmp_path / str(average)
        setup = made(tiny_splits, ema_decay=average, epochs=12)
        state = begin(tiny_net, setup.settings, CPU)
        for epoch, step in ((9, 0), (10, 3), (10, 0)):
            state.epoch, state.step = epoch, step
            if state.averaged is not None:
                state.averaged = {name: value + 1 for name, value in state.averaged.items()}
            written = save_checkpoint(state, folder)
        # The two that come last by name are kept, and only one of them ends an epoch.
        assert finished_epochs(folder) == {10: written}
        wanted = state.averaged or state.net.state_dict()
        assert plain(weights_of_checkpoint(written)) == plain(dict(wanted))
    written.write_bytes(b"damaged")
    with pytest.raises(StorageError):
        weights_of_checkpoint(written)


def test_a_state_that_is_begun_computes_in_float32(
    tiny_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact: list[torch.device] = []
    monkeypatch.setattr("glasshouse.training.state.compute_exactly", exact.append)
    begin(tiny_net, TrainSettings(), CPU)
    assert exact == [CPU]
