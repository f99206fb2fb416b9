"""The only training loop: a generator that yields a Step after each update and an Epoch after each.

Progress bars, checkpoints and early stopping are ordinary for-loops around it. A caller that stops
iterating leaves the state after a whole step, ready to be saved and resumed.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from glasshouse.data.batches import Batch, TrainingImages, batches, prepare_images, step_count
from glasshouse.data.images import ImageSet
from glasshouse.errors import DivergedError, UsageError
from glasshouse.models.classifier import Preprocessing, scale
from glasshouse.models.predict import autocast, device_of, predict_logits
from glasshouse.rng import derive
from glasshouse.settings import AugmentSettings, TrainSettings
from glasshouse.training.convolutions import faster_convolutions
from glasshouse.training.devices import choose_precision
from glasshouse.training.losses import batch_loss, correct_count
from glasshouse.training.optimizers import clear_gradients, clip_gradients, set_learning_rate
from glasshouse.training.schedules import EveryStep, Rate, learning_rate, rate_of
from glasshouse.training.state import Epoch, TrainingState, copy_weights


@dataclass(frozen=True)
class Step:
    """One update of the weights.

    epoch, step: counted from 1, of ``steps`` in this epoch. images: seen in the epoch so far.
    """

    epoch: int
    step: int
    steps: int
    images: int
    lr: float


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that defines a training run, except for its state.

    rate: a function that is called once per epoch, counted from 0, and returns the learning rate;
    EveryStep for one that changes within an epoch; None follows settings.schedule.
    class_weights: weight of each class in the loss; None: all alike.
    """

    train: ImageSet
    validation: ImageSet
    preprocessing: Preprocessing
    settings: TrainSettings
    augment: AugmentSettings
    rate: Rate | None = None
    class_weights: tuple[float, ...] | None = None


def train(state: TrainingState, setup: TrainingSetup) -> Iterator[Step | Epoch]:
    """Train from the present state to the last epoch; nothing but the state changes.

    Raises DivergedError, naming the images, when a training or validation loss is not finite.
    """
    settings = setup.settings
    device = device_of(state.net)
    data = prepare_images(setup.train, device, settings.sampling)
    steps = step_count(len(data), settings.batch_size)
    rate = rate_of(setup.rate or EveryStep(lambda epoch: learning_rate(settings, epoch)))
    while state.epoch < settings.epochs:
        for batch in _batches(state, data, setup):
            started = time.perf_counter()
            lr = rate(state.epoch + batch.step / steps)
            loss, logits = update(state, batch, setup, lr)
            _account(state, loss, logits, batch)
            state.seconds += time.perf_counter() - started
            yield Step(state.epoch + 1, state.step, steps, state.seen, lr)
        last_lr = rate(state.epoch + (steps - 1) / steps)
        yield _end_epoch(state, setup, last_lr)


def update(
    state: TrainingState, batch: Batch, setup: TrainingSetup, lr: float
) -> tuple[Tensor, Tensor]:
    """One step of the optimizer on one batch; returns loss and logits from before the step."""
    settings, device = setup.settings, device_of(state.net)
    if not state.net.training:
        state.net.train()
    set_learning_rate(state.optimizer, lr)
    with _seeded(device, derive(settings.seed, "dropout", state.epoch, batch.step)):
        inputs = scale(batch.images, setup.preprocessing)
        with autocast(device, choose_precision(settings, device)), faster_convolutions(inputs):
            logits = _answered(state.net, inputs)
        weights = _class_weights(setup, device)
        loss = batch_loss(logits.float(), batch, settings.label_smoothing, weights)
        _require_finite(loss, batch, state, setup)
        loss.backward()  # type: ignore[no-untyped-call]
    if settings.gradient_clip is not None:
        clip_gradients(state.net, settings.gradient_clip)
    state.optimizer.step()
    clear_gradients(state.optimizer)
    _update_average(state, settings)
    return loss, logits


def _answered(net: nn.Module, inputs: Tensor) -> Tensor:
    try:
        logits: Tensor = net(inputs.contiguous(memory_format=torch.channels_last))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "batch normalisation of single values needs more than one image per batch: "
            "set train.batch_size=2 or more"
        ) from error
    return logits


def _class_weights(setup: TrainingSetup, device: torch.device) -> Tensor | None:
    return None if setup.class_weights is None else torch.tensor(setup.class_weights).to(device)


def _batches(state: TrainingState, data: TrainingImages, setup: TrainingSetup) -> Iterator[Batch]:
    """The remaining batches of this epoch; preparing them counts as training time."""
    remaining = batches(
        data,
        setup.augment,
        batch_size=setup.settings.batch_size,
        seed=setup.settings.seed,
        epoch=state.epoch,
        first_step=state.step,
    )
    while True:
        started = time.perf_counter()
        batch = next(remaining, None)
        state.seconds += time.perf_counter() - started
        if batch is None:
            return
        yield batch


def _account(state: TrainingState, loss: Tensor, logits: Tensor, batch: Batch) -> None:
    state.loss_sum += loss.item() * len(batch.labels)
    state.correct += int(correct_count(logits, batch).item())
    state.seen += len(batch.labels)
    state.step += 1


def _end_epoch(state: TrainingState, setup: TrainingSetup, lr: float) -> Epoch:
    loss, accuracy = _validate(state, setup)
    epoch = Epoch(
        epoch=state.epoch + 1,
        train_loss=state.loss_sum / state.seen,
        train_accuracy=state.correct / state.seen,
        validation_loss=loss,
        validation_accuracy=accuracy,
        lr=lr,
        seconds=round(state.seconds, 3),
        images_per_second=round(state.seen / state.seconds, 1),
    )
    if setup.settings.keep == "best" and is_best(epoch, state.history):
        with _weights(state.net, state.averaged):
            state.best = copy_weights(state.net)
    state.history.append(epoch)
    state.epoch, state.step = state.epoch + 1, 0
    state.loss_sum, state.correct, state.seen, state.seconds = 0.0, 0, 0, 0.0
    return epoch


def is_best(epoch: Epoch, before: list[Epoch]) -> bool:
    """True when the validation loss is below that of every earlier epoch."""
    return all(epoch.validation_loss < other.validation_loss for other in before)


def has_stalled(history: list[Epoch], patience: int) -> bool:
    """True when none of the last ``patience`` epochs lowered the best validation loss."""
    recent = [is_best(epoch, history[:i]) for i, epoch in enumerate(history)][-patience:]
    return len(history) > patience and not any(recent)


def _validate(state: TrainingState, setup: TrainingSetup) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on the validation split, without augmentation."""
    precision = choose_precision(setup.settings, device_of(state.net))
    with _weights(state.net, state.averaged):
        logits = predict_logits(
            state.net, setup.preprocessing, setup.validation.pixels, precision=precision
        )
    labels = torch.from_numpy(setup.validation.labels)
    loss = cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        bad = setup.validation.ids[(~logits.isfinite().all(dim=1)).numpy()].tolist()
        where = f"The answers for {_shortened(bad)} are not finite. " if bad else ""
        raise DivergedError(
            f"the validation loss became {loss} after epoch {state.epoch + 1}. {where}"
            "Lower train.lr or set train.gradient_clip=1."
        )
    return loss, (logits.argmax(dim=1) == labels).float().mean().item()


@contextmanager
def _weights(net: nn.Module, weights: dict[str, Tensor] | None) -> Iterator[None]:
    """A context in which the network has other weights; its own return afterwards."""
    if weights is None:
        yield
        return
    own = copy_weights(net)
    net.load_state_dict(weights)
    try:
        yield
    finally:
        net.load_state_dict(own)


@torch.no_grad()
def _update_average(state: TrainingState, settings: TrainSettings) -> None:
    if state.averaged is None or settings.ema_decay is None:
        return
    now = state.net.state_dict()
    floating = [name for name, tensor in now.items() if tensor.is_floating_point()]
    # All tensors in one call: one by one, a GPU would mostly wait for the next kernel.
    average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
    average([state.averaged[name] for name in floating], [now[name] for name in floating], None)
    for name in now.keys() - floating:
        state.averaged[name].copy_(now[name])  # counters have no meaningful average


def _require_finite(loss: Tensor, batch: Batch, state: TrainingState, setup: TrainingSetup) -> None:
    if math.isfinite(loss.item()):
        return
    shown = _shortened(setup.train.ids[batch.positions].tolist())
    raise DivergedError(
        f"the loss became {loss.item()} in epoch {state.epoch + 1}, step {batch.step + 1}. "
        f"The batch had the images {shown}. Lower train.lr or set train.gradient_clip=1, and "
        "check these images."
    )


def _shortened(ids: list[str]) -> str:
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A context with torch seeded; the caller's random state returns afterwards."""
    # Not torch.random.fork_rng, which takes a hundred times as long at every step.
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
