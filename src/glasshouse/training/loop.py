"""The only training loop: a generator that yields a Step after each update and an Epoch after each.

Progress bars, checkpoints and early stopping are ordinary for-loops around it. A caller that stops
iterating leaves the state after a whole step, ready to be saved and resumed.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from glasshouse.data.batches import Batch, TrainingImages, batches, prepare_images, step_count
from glasshouse.errors import UsageError
from glasshouse.models.classifier import scale
from glasshouse.models.predict import autocast, device_of, passes, predict_logits
from glasshouse.models.random_state import seeded
from glasshouse.rng import derive
from glasshouse.settings import TrainSettings
from glasshouse.training.convolutions import faster_convolutions
from glasshouse.training.layer_passes import Places, pass_forward
from glasshouse.training.losses import batch_loss, weights_on
from glasshouse.training.optimizers import (
    DROP_EVERY,
    clear_gradients,
    clip_gradients,
    drop_vanishing,
    leaves_gradients,
    set_learning_rate,
    take_step,
)
from glasshouse.training.own_parts import own_batches, own_optimizer, own_rate
from glasshouse.training.precision import choose_precision
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.repeatable import in_threads_of
from glasshouse.training.results import Counted, StepResult, when_read
from glasshouse.training.schedules import rate_of, with_peak
from glasshouse.training.shard_sum import backward_of_shards
from glasshouse.training.state import (
    Epoch,
    TrainingState,
    copy_weights,
    is_best,
    using_weights,
)
from glasshouse.training.training_setup import TrainingSetup as TrainingSetup, require_settings_act
from glasshouse.training.validation import loss_and_accuracy
from glasshouse.wording import first_of


@dataclass(frozen=True)
class Step:
    """One update of the weights.

    epoch, step: counted from 1, of ``steps`` in this epoch. images: seen in the epoch so far.
    is_asked_to_stop: whether any process of a group was, known to all of them (on a GPU, about once
    a second); never set by a process that is alone.
    """

    epoch: int
    step: int
    steps: int
    images: int
    lr: float
    is_asked_to_stop: bool = False


def train(state: TrainingState, setup: TrainingSetup) -> Iterator[Step | Epoch]:
    """Train from the present state to the last epoch; nothing but the state changes.

    Only with our own batches does a state that was saved and loaded continue exactly; of others,
    those of the present epoch that were used already are skipped. Raises DivergedError, naming the
    images, when a training or validation loss is not finite, GpuMemoryError when the memory of the
    GPU is full, and UsageError and DataError for own parts that do not fit.
    """
    return in_threads_of(setup.settings, device_of(state.net), _trained(state, setup))


def _trained(state: TrainingState, setup: TrainingSetup) -> Iterator[Step | Epoch]:
    require_settings_act(setup)
    use_own_optimizer(state, setup)
    settings = setup.settings
    begin_epoch = _batch_source(state, setup)
    rate = rate_of(setup.rate, _with_own_rate(settings, state))
    reads = when_read(state.unread, setup.group, device_of(state.net))
    while state.epoch < settings.epochs:
        remaining, steps = begin_epoch()
        for batch in _timed(state, remaining):
            started = time.perf_counter()
            # The length of an epoch of others' batches may be unknown, or wrong.
            steps = max(steps, batch.step + 1)
            lr = rate(state.epoch + batch.step / steps)
            loss, logits = update(state, batch, setup, lr)
            _account(state, loss, logits, batch, setup)
            is_asked = next(reads) and _read(state, setup.group, logits)
            state.seconds += time.perf_counter() - started
            yield Step(state.epoch + 1, state.step, steps, state.seen, lr, is_asked)
        last_lr = rate(state.epoch + (steps - 1) / steps)
        yield _end_epoch(state, setup, last_lr)


def use_own_optimizer(state: TrainingState, setup: TrainingSetup) -> None:
    """Give a new state the optimizer of its setup, where that has one of its own.

    Raises UsageError for a state that was trained with another.
    """
    if setup.optimizer is None or own_rate(state.optimizer) is not None:
        return
    if state.epoch or state.step:
        raise UsageError(
            "the state was trained with the optimizer of the settings: begin a new one to train "
            "with another"
        )
    state.optimizer = own_optimizer(state.net, setup.optimizer)


def update(
    state: TrainingState, batch: Batch, setup: TrainingSetup, lr: float
) -> tuple[Tensor, Tensor | Counted]:
    """One step of the optimizer on one batch; returns loss and logits from before the step."""
    settings = setup.settings
    if not state.net.training:
        state.net.train()
    set_learning_rate(state.optimizer, lr)
    loss, logits = (_backward_of_shards if batch.shards else backward)(state, setup, batch)
    if settings.gradient_clip is not None:
        clip_gradients(state.net, state.optimizer, settings.gradient_clip)
    take_step(state.optimizer)
    if setup.optimizer is None and batch.step % DROP_EVERY == 0:
        drop_vanishing(state.optimizer)
    clear_gradients(state.optimizer)
    _update_average(state, settings)
    return loss, logits


def backward(
    state: TrainingState,
    setup: TrainingSetup,
    batch: Batch,
    places: Places | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward and backward pass of a batch, or of one shard, which adds its share of the loss.

    places: where gradients are written if that saves a copy.
    """
    settings, device = setup.settings, device_of(state.net)
    if setup.loss is not None:
        places = None  # it might compute gradients of its own, which the next ones would overwrite
    shard = () if settings.shards == 1 else (batch.number,)
    with seeded(device, derive(settings.seed, "dropout", state.epoch, batch.step, *shard)):
        inputs = scale(batch.images, setup.preprocessing)
        with autocast(device, choose_precision(settings, device)), faster_convolutions(inputs):
            logits = _answered(state.net, inputs, places)
        loss = _loss_of(logits.float(), batch, setup)
        (loss * batch.share if shard else loss).backward()  # type: ignore[no-untyped-call]
    return loss, logits


def _backward_of_shards(
    state: TrainingState, setup: TrainingSetup, batch: Batch
) -> tuple[Tensor, Counted]:
    return backward_of_shards(
        state, batch, partial(backward, state, setup), setup.group,
        is_asked=setup.is_asked_to_stop,
        changes_gradients=setup.settings.gradient_clip is not None
        or not leaves_gradients(state.optimizer),
    )  # fmt: skip


def _answered(net: nn.Module, inputs: Tensor, places: Places | None) -> Tensor:
    try:
        logits = pass_forward(net, inputs.contiguous(memory_format=torch.channels_last), places)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "batch normalisation of single values needs more than one image per batch: "
            "set train.batch_size=2 or more"
        ) from error
    return logits


def _loss_of(logits: Tensor, batch: Batch, setup: TrainingSetup) -> Tensor:
    weights = None
    if setup.class_weights is not None:
        weights = weights_on(logits.device, setup.class_weights)
    return batch_loss(logits, batch, setup.settings.label_smoothing, weights, setup.loss)


def _with_own_rate(settings: TrainSettings, state: TrainingState) -> TrainSettings:
    """The settings with the learning rate that an own optimizer brought along."""
    peak = own_rate(state.optimizer)
    return settings if peak is None else with_peak(settings, peak)


def _batch_source(
    state: TrainingState, setup: TrainingSetup
) -> Callable[[], tuple[Iterator[Batch], int]]:
    """A function that returns the remaining batches of the present epoch, and how many it has."""
    device, settings = device_of(state.net), setup.settings
    usual = step_count(len(setup.train), settings.batch_size, settings.shards)
    if setup.batches is not None:
        source, wanted = setup.batches, setup.wanted_batches(device)

        def others() -> tuple[Iterator[Batch], int]:
            found, count = own_batches(source, state.epoch, state.step, wanted)
            return found, count or usual

        return others
    data = prepare_images(setup.train, device, settings.sampling, setup.cut)
    return lambda: (_own(state, data, setup), usual)


def _own(state: TrainingState, data: TrainingImages, setup: TrainingSetup) -> Iterator[Batch]:
    return batches(
        data,
        setup.augment,
        batch_size=setup.settings.batch_size,
        seed=setup.settings.seed,
        epoch=state.epoch,
        first_step=state.step,
    )


def _timed(state: TrainingState, remaining: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; preparing them counts as training time."""
    while True:
        started = time.perf_counter()
        batch = next(remaining, None)
        state.seconds += time.perf_counter() - started
        if batch is None:
            return
        yield batch


def _account(
    state: TrainingState,
    loss: Tensor,
    logits: Tensor | Counted,
    batch: Batch,
    setup: TrainingSetup,
) -> None:
    """Keep the results of a step, on the device."""
    here, names = (state.epoch + 1, batch.step + 1), partial(_names_of, batch, setup)
    answers = logits.detach() if isinstance(logits, Tensor) else logits
    result = StepResult(*here, loss.detach(), answers, batch.labels, names)
    state.unread.add(result)
    state.seen += len(logits)
    state.step += 1


def _read(state: TrainingState, group: ProcessGroup, answers: Tensor | Counted) -> bool:
    """Read what is unread; whether any process of a group is asked to stop."""
    state.read_results()
    return group.size > 1 and isinstance(answers, Counted) and float(answers.asked) > 0


def _end_epoch(state: TrainingState, setup: TrainingSetup, lr: float) -> Epoch:
    started = time.perf_counter()
    state.read_results()
    state.seconds += time.perf_counter() - started
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
        with using_weights(state.net, state.averaged):
            state.best = copy_weights(state.net)
    state.history.append(epoch)
    state.epoch, state.step = state.epoch + 1, 0
    state.loss_sum, state.correct, state.seen, state.seconds = 0.0, 0, 0, 0.0
    return epoch


def _validate(state: TrainingState, setup: TrainingSetup) -> tuple[float, float]:
    """Mean loss and accuracy on the validation split, without augmentation."""
    device = device_of(state.net)
    precision = choose_precision(setup.settings, device)
    pixels = setup.validation.pixels
    with using_weights(state.net, state.averaged):
        answers = partial(predict_logits, state.net, setup.preprocessing, precision=precision)
        chunks = [pixels[rows] for rows in passes(pixels)]
        logits = torch.cat(setup.group.deal(answers, chunks))
    return loss_and_accuracy(logits, setup.validation, state.epoch + 1, setup.loss, device)


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


def _names_of(batch: Batch, setup: TrainingSetup) -> str:
    if setup.batches is not None:
        return "The batch is one of your own."
    ids = setup.train.ids[batch.positions].tolist()
    return f"The batch had the images {first_of(ids)}."
