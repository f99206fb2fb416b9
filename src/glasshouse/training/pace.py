"""A short benchmark of training and inference speed on this machine, on copies."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glasshouse.data.images import ImageSet, take
from glasshouse.models.classifier import Classifier
from glasshouse.models.devices import choose_device
from glasshouse.models.predict import predict, predict_logits
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.precision import choose_precision
from glasshouse.training.state import TrainingState, begin, save_checkpoint

_WARM_UP, _FEWEST = 3, 3
# Inference is measured on at least this many images, and for this share of the time.
_FEW_ANSWERS, _SHARE = 64, 0.25


@dataclass(frozen=True)
class Pace:
    """The speed of a network, for a width as a factor of the recipe's.

    training: images per second, including augmentation. validating: the same in the precision of
    training, answering: in float32. saving: seconds per checkpoint. explaining: seconds per
    snapshot, 0 without snapshots.
    """

    width: float
    training: float
    validating: float
    answering: float
    saving: float
    explaining: float = 0.0


def measure_pace(
    classifier: Classifier, setup: TrainingSetup, *, width: float = 1.0, seconds: float = 1.0
) -> Pace:
    """Benchmark training and inference of an untrained classifier for about ``seconds``.

    Runs the real loop on images of the setup, at a learning rate so low that no loss diverges.
    """
    # Enough epochs for any number of steps, however small the data set.
    settings = setup.settings.model_copy(update={"lr": 1e-3, "epochs": 1_000_000})
    setup = replace(setup, settings=settings, rate=lambda epoch: 1e-6)
    # The first steps select kernels, and the fastest tells how many more there is time for.
    _, warm_up = _train_steps(classifier, setup, _WARM_UP)
    state, steps = _train_steps(classifier, setup, max(_FEWEST, round(seconds / min(warm_up))))
    images = min(settings.batch_size, len(setup.train))
    validating, answering = _answering(classifier, state, setup, seconds * _SHARE)
    return Pace(width, images * len(steps) / sum(steps), validating, answering, _saving(state))


def _train_steps(
    classifier: Classifier, setup: TrainingSetup, count: int
) -> tuple[TrainingState, list[float]]:
    """A state after ``count`` steps, and the seconds of each."""
    state = begin(classifier.net, setup.settings, choose_device(setup.settings.device))
    # Batches are augmented many at a time; any that are not timed would distort the result.
    setup = replace(setup, train=_some(setup.train, count * setup.settings.batch_size))
    durations: list[float] = []
    last = time.perf_counter()
    for record in train(state, setup):
        now = time.perf_counter()
        if isinstance(record, Step):
            durations.append(now - last)
            if len(durations) == count:
                break
        last = now
    return state, durations


def _answering(
    classifier: Classifier, state: TrainingState, setup: TrainingSetup, seconds: float
) -> tuple[float, float]:
    """Images per second of validation in the precision of training, and of final predictions."""
    trained = replace(classifier, net=state.net)
    precision = choose_precision(setup.settings, choose_device(setup.settings.device))

    def validate(images: ImageSet) -> None:
        predict_logits(state.net, setup.preprocessing, images.pixels, precision=precision)

    def answer(images: ImageSet) -> None:
        predict(trained, images)

    return (
        _rate(validate, setup.validation, seconds / 2),
        _rate(answer, setup.validation, seconds / 2),
    )


def _rate(way: Callable[[ImageSet], None], images: ImageSet, seconds: float) -> float:
    """Images per second, after a warm-up that selects kernels."""
    few = _some(images, _FEW_ANSWERS)
    first = min(_timed(way, few) for _ in range(2)) / len(few)
    chosen = _some(images, max(len(few), round(seconds / first)))
    return len(chosen) / _timed(way, chosen)


def _timed(way: Callable[[ImageSet], None], images: ImageSet) -> float:
    started = time.perf_counter()
    way(images)
    return time.perf_counter() - started


def _saving(state: TrainingState) -> float:
    with tempfile.TemporaryDirectory(prefix="glasshouse-pace-") as folder:
        started = time.perf_counter()
        save_checkpoint(state, Path(folder))
        return time.perf_counter() - started


def _some(images: ImageSet, count: int) -> ImageSet:
    """``count`` evenly spaced images of a set, or the set itself where it has no more."""
    if count >= len(images):
        return images
    return take(images, np.linspace(0, len(images) - 1, count).astype(np.int64))
