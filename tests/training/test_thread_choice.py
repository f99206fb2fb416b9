"""Fewer threads only where they are clearly faster, and nothing else changes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

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


class Steps:
    """Steps of a training that take the seconds that they are given, by a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float]) -> None:
        self.now, self.taken, self.left = 10.0, 0, list(seconds)
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(thread_choice, "time", clock)
        monkeypatch.setattr(thread_choice, "update", self.step)
        monkeypatch.setattr(thread_choice, "_first_batch", lambda setup: None)

    def step(self, *_: object) -> None:
        self.now += self.left.pop(0)
        self.taken += 1


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("seconds", "taken", "mean"),
    [
        # The first prepares kernels; then as many as take 40 ms together.
        ((0.2, 0.03, 0.009, 0.009), 4, 0.016),
        ((0.2, 0.03, 0.011, 9.0), 3, 0.0205),
        ((0.49, 0.041, 9.0), 2, 0.041),
        # Half a second is long enough to need no step before it.
        ((0.5, 9.0), 1, 0.5),
        ((0.51, 9.0), 1, 0.51),
    ],
)
def test_a_measurement_takes_a_step_or_a_burst_of_them(
    monkeypatch: pytest.MonkeyPatch, tiny_splits: Splits, seconds: tuple[float, ...], taken: int,
    mean: float,
) -> None:  # fmt: skip
    steps = Steps(monkeypatch, seconds)
    measure = thread_choice._measure_of(None, made(tiny_splits))  # type: ignore[arg-type]
    assert measure(1) == pytest.approx(mean)
    assert steps.taken == taken and torch.get_num_threads() == 1


@pytest.mark.usefixtures("two_threads")
def test_kernels_are_prepared_once_for_each_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, tiny_splits: Splits
) -> None:
    steps = Steps(monkeypatch, [0.3, 0.05, 0.05, 0.3, 0.05, 0.05])
    measure = thread_choice._measure_of(None, made(tiny_splits))  # type: ignore[arg-type]
    for threads, taken in ((1, 2), (1, 3), (2, 5), (1, 6)):
        assert measure(threads) == pytest.approx(0.05)
        assert (steps.taken, torch.get_num_threads()) == (taken, threads)


@pytest.mark.usefixtures("two_threads")
def test_the_fastest_number_is_taken_with_the_images_per_second_of_each(
    monkeypatch: pytest.MonkeyPatch, tiny_splits: Splits, tiny_net: nn.Module
) -> None:
    seconds = {2: 0.5, 1: 0.25}
    monkeypatch.setattr(
        thread_choice, "fastest_threads", lambda most, measure, fewest: (1, seconds)
    )
    begun: list[TrainSettings] = []

    def new(settings: TrainSettings) -> TrainingState:
        begun.append(settings)
        return begin(tiny_net, settings, CPU)

    choice = choose_threads(new, made(tiny_splits, lr="auto", device="cpu"))
    assert choice == ThreadChoice(1, {2: 16.0, 1: 32.0})
    assert [settings.lr for settings in begun] == [1e-3]
    assert choice.is_reduced and not ThreadChoice(2, {2: 9.0, 1: 8.0}).is_reduced
    assert not ThreadChoice(2).is_reduced
    own: list[dict[str, Any]] = [{"optimizer": nn.Module}, {"batches": lambda epoch: []}]
    for given in own:
        assert choose_threads(never, replace(made(tiny_splits), **given)) == ThreadChoice(2)


def test_why_fewer_threads_train_is_told_from_the_fewest_on() -> None:
    assert describe_threads(ThreadChoice(1, {4: 1234.5, 2: 26.4, 1: 880.2})) == (
        "threads: 1, as more are slower while the processor is busy: 880 images per second with "
        "1, 26 images per second with 2, 1,234 images per second with 4"
    )
