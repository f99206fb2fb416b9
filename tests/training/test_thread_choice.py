"""Fewer threads only where they are clearly faster, and nothing else changes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.state import TrainingState, begin
from glasshouse.training.thread_choice import (
    ThreadChoice,
    choose_threads,
    describe_threads,
    with_threads,
)

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_the_line_names_every_rate() -> None:
    text = describe_threads(ThreadChoice(1, {2: 26.4, 1: 880.2}))
    assert text.startswith("threads: 1, ")
    assert "880 images per second with 1, 26 images per second with 2" in text


def made(splits: Splits, **options: object) -> TrainingSetup:
    settings = TrainSettings.model_validate({"batch_size": 8, "epochs": 1, **options})
    size = Preprocessing(height=splits.train.height, width=splits.train.width)
    return TrainingSetup(splits.train, splits.validation, size, settings, AugmentSettings())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("lr", [1e-3, "auto"])
def test_a_measurement_uses_up_its_own_state_only(
    tiny_net: nn.Module, tiny_splits: Splits, lr: object
) -> None:
    before = {name: value.clone() for name, value in tiny_net.state_dict().items()}
    random = torch.random.get_rng_state()
    begun: list[TrainingState] = []

    def new(settings: TrainSettings) -> TrainingState:
        begun.append(begin(tiny_net, settings, CPU))
        return begun[0]

    choice = choose_threads(new, made(tiny_splits, lr=lr))
    assert choice.threads in (1, 2) and sorted(choice.rates) == [1, 2]
    assert min(choice.rates.values()) > 0
    assert torch.get_num_threads() == 2
    assert len(begun) == 1
    assert all(torch.equal(value, before[key]) for key, value in tiny_net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    changed = begun[0].net.state_dict()
    assert not all(torch.equal(value, before[key]) for key, value in changed.items())


def never(_settings: TrainSettings) -> TrainingState:
    raise AssertionError("nothing is to be measured")


@pytest.mark.usefixtures("two_threads")
def test_what_is_given_or_cut_into_shards_is_not_measured(tiny_splits: Splits) -> None:
    assert choose_threads(never, made(tiny_splits, threads=1)).threads == 1
    assert choose_threads(never, made(tiny_splits, threads=3)).threads == 3
    assert choose_threads(never, made(tiny_splits, shards=2)).threads == 1
    own = replace(made(tiny_splits), loss=nn.CrossEntropyLoss())
    assert choose_threads(never, own) == ThreadChoice(2)
    torch.set_num_threads(1)
    assert choose_threads(never, made(tiny_splits)) == ThreadChoice(1)


@pytest.mark.usefixtures("two_threads")
def test_a_training_computes_with_the_chosen_threads(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    seen: list[int] = []
    tiny_net.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    setup = made(tiny_splits)
    setup = replace(setup, settings=with_threads(setup.settings, ThreadChoice(1)))
    state = begin(tiny_net, setup.settings, CPU)
    for record in train(state, setup):
        # The caller keeps its own.
        assert torch.get_num_threads() == 2
        if not isinstance(record, Step):
            break
    assert set(seen) == {1}


@pytest.mark.usefixtures("two_threads")
def test_a_training_without_a_run_chooses_too(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glasshouse.training.fit.choose_threads", lambda *_: ThreadChoice(1))
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    tiny_net.register_forward_hook(lambda net, *_: seen[net.training].add(torch.get_num_threads()))
    train_classifier(tiny_net, tiny_splits, TrainSettings(epochs=1, batch_size=8), progress=False)
    # Trials of the network, before and after the training, are in evaluation mode.
    assert seen[True] == {1}
