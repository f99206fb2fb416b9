"""The learning-rate range test (Smith 2015), on copies of the caller's network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from torch import nn

from glasshouse.data.batches import Batch, batches, prepare_images, step_count
from glasshouse.errors import NoUsableRate, UsageError, require_type
from glasshouse.models.devices import choose_device
from glasshouse.progress import Progress
from glasshouse.rng import derive
from glasshouse.settings import TrainSettings
from glasshouse.training.loop import TrainingSetup, update, use_own_optimizer
from glasshouse.training.lr_curve import DEFAULT_RULE, Losses, LrCurve, read_curve, require_rule
from glasshouse.training.own_parts import own_batches
from glasshouse.training.repeatable import as_in_training
from glasshouse.training.schedules import with_peak
from glasshouse.training.state import begin

# Beyond four times its minimum the loss diverges, and further steps tell nothing.
_EXPLODED = 4.0
# The range of useful learning rates. Adam's rate is the size of a step whatever the gradient, so
# its range is narrower, and no step of a test is wasted outside it.
_RATES = {"adam": (1e-5, 0.1), "adamw": (1e-5, 0.1), "sgd": (1e-4, 10.0), "muon": (1e-4, 10.0)}
# An optimizer of the user's own may be of either kind.
_ANY_RATES = (1e-5, 10.0)


@dataclass(frozen=True)
class RangeTest:
    """The learning rates to test, in how many steps, and with how many seeds.

    start, end: lowest and highest rate; None: the usual range of the optimizer.
    """

    start: float | None = None
    end: float | None = None
    steps: int = 100
    seeds: int = 3

    def __post_init__(self) -> None:
        if self.steps < 20 or self.seeds < 1:
            raise UsageError(
                "range test: expected at least 20 steps and 1 seed, received "
                f"steps={self.steps}, seeds={self.seeds}"
            )

    def rates(self, settings: TrainSettings, *, any_optimizer: bool = False) -> Losses:
        """The learning rate of each step, evenly spaced in the logarithm."""
        lowest, highest = _ANY_RATES if any_optimizer else _RATES[settings.optimizer]
        start = lowest if self.start is None else self.start
        end = highest if self.end is None else self.end
        if not 0 < start < end:
            raise UsageError(
                f"range test: expected 0 < start < end, received start={start} and end={end}"
            )
        return np.geomspace(start, end, self.steps)


def find_lr(
    net: nn.Module,
    setup: TrainingSetup,
    *,
    test: RangeTest | None = None,
    rule: str = DEFAULT_RULE,
    progress: Progress | None = None,
) -> LrCurve:
    """Train copies of the network for a few steps at rising learning rates and read the losses.

    Each seed has its own order, augmentation and dropout. rule: one of ``lr_curve.RULES``.
    progress: called with ("range test", steps done, steps in total). Raises UsageError for an
    unknown rule.
    """
    require_type(net, nn.Module, "a network, such as untrained_classifier(...).net")
    require_type(setup, TrainingSetup, "a TrainingSetup")
    require_rule(rule)
    test = test or RangeTest()
    lrs = test.rates(setup.settings, any_optimizer=setup.optimizer is not None)
    tell = progress or (lambda what, done, total: None)
    rows = []
    for number in range(test.seeds):
        tell("range test", number * test.steps, test.seeds * test.steps)
        with as_in_training(setup.settings, choose_device(setup.settings.device)):
            rows.append(_one_test(net, _with_seed(setup, number), lrs))
    tell("range test", test.seeds * test.steps, test.seeds * test.steps)
    return read_curve(lrs, np.stack(rows), rule, guess_loss=_guess_loss(setup))


def with_found_rate(settings: TrainSettings, curve: LrCurve) -> TrainSettings:
    """The settings with the learning rate that suits their schedule.

    One-cycle rises to max_lr, triangular cycles between base_lr and max_lr, all others start at the
    suggestion, and rates listed per epoch are scaled to it. Raises NoUsableRate when the loss has
    no usable valley.
    """
    if curve.suggestion is None or curve.max_lr is None or curve.base_lr is None:
        raise NoUsableRate(f"train.lr = 'auto': {curve.verdict} Or set train.lr to a number.")
    schedule = settings.schedule
    if schedule.type == "triangular":
        schedule = schedule.model_copy(update={"base": curve.base_lr / curve.max_lr})
    cyclical = schedule.type in ("one_cycle", "triangular")
    lr = curve.max_lr if cyclical else curve.suggestion
    return with_peak(settings.model_copy(update={"schedule": schedule}), lr)


def _one_test(net: nn.Module, setup: TrainingSetup, lrs: Losses) -> Losses:
    """The loss before each step at these learning rates; nan after it has diverged."""
    state = begin(net, setup.settings, choose_device(setup.settings.device))
    use_own_optimizer(state, setup)
    losses = np.full(len(lrs), np.nan)
    for i, (lr, batch) in enumerate(zip(lrs, _endless(setup, len(lrs)), strict=False)):
        loss = update(state, batch, setup, float(lr))[0].item()
        if not math.isfinite(loss):
            break
        losses[i] = loss
        if loss > _EXPLODED * np.nanmin(losses):
            break
    return losses


def _endless(setup: TrainingSetup, steps: int) -> Iterator[Batch]:
    """At least ``steps`` batches, over as many epochs as it takes."""
    settings = setup.settings
    device = choose_device(settings.device)
    if setup.batches is not None:
        for epoch in count():
            yield from own_batches(setup.batches, epoch, 0, setup.wanted_batches(device))[0]
    data = prepare_images(setup.train, device, settings.sampling, setup.cut)
    epochs = -(-steps // step_count(len(data), settings.batch_size, settings.shards))
    for epoch in range(epochs):
        yield from batches(
            data, setup.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch
        )


def _with_seed(setup: TrainingSetup, number: int) -> TrainingSetup:
    # The learning rate of the settings is not used and may be "auto"; averaged weights neither.
    changes = {
        "seed": derive(setup.settings.seed, "finder", number),
        "lr": 1e-3,
        "ema_decay": None,
    }
    return replace(setup, settings=setup.settings.model_copy(update=changes))


def _guess_loss(setup: TrainingSetup) -> float:
    """The entropy of the class frequencies: the loss of the best constant prediction.

    Frequencies are weighted and smoothed as in the loss; nan for a loss or batches of the user's.
    """
    if setup.loss is not None or setup.batches is not None:
        return math.nan
    if setup.train.is_multi_label:
        return _guess_loss_of_labels(setup)
    counts = np.bincount(setup.train.labels, minlength=len(setup.train.class_names))
    if setup.settings.sampling == "balanced":
        counts = np.minimum(counts, 1)  # every class that occurs is drawn equally often
    counts = counts * np.array(setup.class_weights or 1.0)
    smoothing = setup.settings.label_smoothing
    shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _guess_loss_of_labels(setup: TrainingSetup) -> float:
    """The same where images may have several labels: the mean entropy of each label's frequency."""
    smoothing = setup.settings.label_smoothing
    shares = (1 - smoothing) * setup.train.label_matrix.mean(axis=0) + smoothing / 2
    both = np.stack([shares, 1 - shares]).clip(min=np.finfo(float).tiny)
    return float(-(both * np.log(both)).sum(axis=0).mean())
