from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from glasshouse.data.images import ImageSet, Splits
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.training import pace
from glasshouse.training.loop import Step
from glasshouse.training.pace import _some, measure_pace
from tests.training.test_loop import settings, setup
from tests.untouched.test_training_untouched import snapshot


def test_a_wider_network_is_slower_and_nothing_is_changed(
    tiny_net: nn.Module, tiny_splits: Splits
) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 64, 3),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))  # fmt: skip
    measured = []
    for net in (tiny_net, wide):
        classifier = Classifier(net, Preprocessing(16, 16), tiny_splits.class_names)
        before = snapshot(net)
        what = setup(tiny_splits, settings(lr="auto", epochs=1), rotation_range=9)
        measured.append(measure_pace(classifier, what, width=2.0, seconds=0.1))
        assert snapshot(net) == before
    narrow, slow = measured
    assert narrow.width == 2.0
    assert narrow.training > 2 * slow.training
    assert narrow.validating > slow.validating
    assert narrow.answering > slow.answering
    assert narrow.answering > narrow.training
    assert 0 < narrow.saving < 1


def test_some_images_are_evenly_spaced_and_never_more_than_there_are(tiny_splits: Splits) -> None:
    images = tiny_splits.train
    assert len(images) == 96
    assert _some(images, 4).ids.tolist() == images.ids[[0, 31, 63, 95]].tolist()
    assert _some(images, 96) is images and _some(images, 1000) is images


class Clock:
    """Time that passes only where somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: self.now))


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 64), (0.75, 75), (9.0, 96)])
def test_answers_are_measured_on_as_many_images_as_the_time_allows(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, seconds: float, count: int
) -> None:
    clock, sizes = Clock(monkeypatch), list[int]()

    def answer(images: ImageSet) -> None:
        sizes.append(len(images))
        # The very first is slow, as kernels are chosen.
        clock.now += len(images) * (0.01 if sizes[1:] else 5.0)

    assert pace._rate(answer, tiny_splits.train, seconds) == pytest.approx(100)
    assert sizes == [64, 64, count]


@pytest.mark.parametrize(
    ("seconds", "steps"),
    # The fastest of three warm-up steps takes 50 ms.
    [(1.0, 20), (0.2, 4), (0.1, 3), (0.0, 3)],
)
def test_training_is_measured_for_about_the_seconds(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch, seconds: float,
    steps: int,
) -> None:  # fmt: skip
    asked: list[tuple[int, Any]] = []

    def taken(classifier: Any, prepared: Any, count: int) -> tuple[str, list[float]]:
        asked.append((count, prepared))
        return "state", [0.1, 0.05, 0.3]

    monkeypatch.setattr(pace, "_train_steps", taken)
    monkeypatch.setattr(pace, "_answering", lambda *given: (given[3], 7.0))
    monkeypatch.setattr(pace, "_saving", lambda state: 0.5)
    classifier = Classifier(tiny_net, Preprocessing(16, 16), tiny_splits.class_names)
    for batch, seen in ((32, 32), (500, 96)):
        given = setup(tiny_splits, settings(batch_size=batch, lr="auto"))
        found = measure_pace(classifier, given, seconds=seconds)
        assert found.training == pytest.approx(seen * 3 / 0.45)
        assert replace(found, training=0) == pace.Pace(1.0, 0, seconds / 4, 7.0, 0.5, 0.0)
        assert [count for count, _ in asked] == [3, steps]
        prepared = asked.pop()[1]
        assert asked.pop()[1].settings == prepared.settings
        assert (prepared.settings.lr, prepared.rate(7)) == (1e-3, 1e-6)
        # As many epochs as any number of steps needs.
        assert prepared.settings.epochs == 1_000_000


def test_steps_are_timed_one_by_one_on_the_images_that_they_need(
    tiny_net: nn.Module, tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, seen = Clock(monkeypatch), list[int]()

    def records(state: Any, prepared: Any) -> Iterator[Step | str]:
        seen.append(len(prepared.train))
        for number in (1, 2, 3):
            clock.now += number
            yield Step(1, number, 3, 8 * number, 0.1)
            clock.now += 0.5  # what a caller does between two steps is part of the next
            if number == 2:
                clock.now += 40
                yield "an epoch, whose validation is no part of any step"

    monkeypatch.setattr(pace, "train", records)
    classifier = Classifier(tiny_net, Preprocessing(16, 16), tiny_splits.class_names)
    given = setup(tiny_splits, settings(batch_size=8))
    assert pace._train_steps(classifier, given, 2)[1] == [1.0, 2.5]
    assert pace._train_steps(classifier, given, 3)[1] == [1.0, 2.5, 3.0]
    assert pace._train_steps(classifier, given, 99)[1] == [1.0, 2.5, 3.0]
    assert seen == [16, 24, 96]
