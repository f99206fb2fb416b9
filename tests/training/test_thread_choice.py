"""Fewer threads only where they are clearly faster, and nothing else changes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training import thread_choice
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.state import TrainingState, begin
from glasshouse.training.thread_choice import (
    Measure,
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


def clock(*seconds: tuple[int, float]) -> Measure:
    """A measurement that gives these seconds in turn, for the number of threads next to each."""
    left = list(seconds)

    def measure(threads: int) -> float:
        expected, found = left.pop(0)
        assert threads == expected
        return found

    return measure


def test_a_free_machine_keeps_all_threads_after_one_round() -> None:
    choice = thread_choice._chosen(4, clock((2, 0.02), (4, 0.012)), 32)
    assert choice.threads == 4 and not choice.is_reduced
    assert choice.rates == {2: pytest.approx(1600), 4: pytest.approx(32 / 0.012)}


def test_threads_are_halved_as_long_as_that_is_much_faster() -> None:
    measure = clock((4, 0.01), (8, 0.4), (2, 0.003), (4, 0.01), (1, 0.006), (2, 0.003))
    choice = thread_choice._chosen(8, measure, 32)
    assert choice.threads == 2 and choice.is_reduced
    assert sorted(choice.rates) == [1, 2, 4, 8]


@pytest.mark.parametrize(("slow_rounds", "threads"), [(1, 2), (2, 1)])
def test_one_round_that_is_not_clear_decides_nothing(slow_rounds: int, threads: int) -> None:
    rounds = [(1, 0.01), (2, 0.02)] * slow_rounds + [(1, 0.01), (2, 0.011)] * (3 - slow_rounds)
    assert thread_choice._chosen(2, clock(*rounds), 32).threads == threads


def test_a_small_gain_is_no_reason_to_change_results() -> None:
    measure = clock(*[(1, 0.01), (2, 0.0145)] * 3)
    choice = thread_choice._chosen(2, measure, 32)
    assert choice.threads == 2
    assert choice.rates == {1: pytest.approx(3200), 2: pytest.approx(32 / 0.0145)}


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
