"""Training in one call, for a notebook or script without a run folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Unpack

from glasshouse.data.alike_splits import require_alike_splits
from glasshouse.data.images import ImageSet, Resize, Splits
from glasshouse.data.survey import channel_statistics, global_statistics
from glasshouse.errors import DataError, UsageError, require_type
from glasshouse.models.architecture import architecture_of
from glasshouse.models.classifier import (
    Classifier,
    Preprocessing,
    first_thresholds,
    require_same_classes,
)
from glasshouse.models.devices import choose_device
from glasshouse.models.final_softmax import logit_net
from glasshouse.models.image_inputs import require_network_size
from glasshouse.models.layers import build
from glasshouse.models.network_inputs import Network, checked_net, network_of
from glasshouse.models.sequential import describe_sequential
from glasshouse.models.whitening import fit_whitening
from glasshouse.rng import derive
from glasshouse.settings import AugmentSettings, ModelSettings, TrainSettings
from glasshouse.training.adapting import adapt
from glasshouse.training.finder import find_lr, with_found_rate
from glasshouse.training.heads import class_weights
from glasshouse.training.loop import Step, TrainingSetup, train
from glasshouse.training.own_parts import OwnParts, require_own_parts, with_rate
from glasshouse.training.schedules import Rate, require_rate
from glasshouse.training.state import Epoch, TrainingState, begin, final_net, has_stalled
from glasshouse.training.thread_choice import choose_threads, with_threads
from glasshouse.training.watch import is_watched, show_training
from glasshouse.wording import has_no_end


def train_classifier(
    net: Network,
    splits: Splits,
    settings: TrainSettings | None = None,
    *,
    augment: AugmentSettings | None = None,
    rate: Rate | None = None,
    progress: bool = True,
    **own: Unpack[OwnParts],
) -> tuple[Classifier, tuple[Epoch, ...]]:
    """Train a copy of a network, or one that is built from settings, without a run folder.

    net: model settings; a list of layers, either settings such as ``{"type": "flatten"}`` or
    modules; any module from float ``(n, 3, h, w)`` to logits ``(n, k)``; or a classifier, which is
    trained further with its own preprocessing. A softmax at the end of a Sequential is left off,
    because loss and predictions apply it. settings: the default is TrainSettings(). rate: in place
    of settings.schedule, a function that is called once per epoch with an integer counted from 0,
    and the learning rate before if it takes two arguments, and returns the learning rate;
    EveryStep: one that changes within an epoch. progress: show a
    line per epoch and the time left, in a notebook or on a terminal only. own: batches, loss and
    optimizer of your own, as in `TrainingSetup`; splits.train still gives size and class names.

    Returns the classifier and the metrics of each epoch; the test split is not used. Raises
    UsageError, ModelError and DataError for a network or images that do not fit together,
    DivergedError when the loss is not finite, GpuMemoryError when the memory of the GPU is full,
    and NoUsableRate with ``lr = "auto"`` and no usable valley.
    """
    require_own_parts(own)
    settings = TrainSettings() if settings is None else settings
    augment = AugmentSettings() if augment is None else augment
    require_type(settings, TrainSettings, "settings such as TrainSettings(epochs=3)")
    require_type(augment, AugmentSettings, "augment such as AugmentSettings(rotation_range=15)")
    if rate is not None:
        require_rate(rate, settings)
    untrained = untrained_classifier(net, splits, seed=settings.seed)
    setup = TrainingSetup(
        splits.train,
        splits.validation,
        untrained.preprocessing,
        settings,
        augment,
        rate,
        class_weights_of(settings, splits),
        **own,
    )
    device = choose_device(settings.device)
    choice = choose_threads(lambda chosen: begin(untrained.net, chosen, device), setup)
    settings = with_threads(settings, choice)
    setup = replace(setup, settings=settings)
    if settings.lr == "auto":
        settings = with_found_rate(settings, find_lr(untrained.net, setup))
        setup = replace(setup, settings=settings)
        if setup.optimizer is not None:
            setup = replace(setup, optimizer=with_rate(setup.optimizer, settings.peak_lr))
    state = begin(untrained.net, settings, device)
    records = train_until_done(state, setup)
    if progress and is_watched():
        show_training(records, settings.epochs)
    # What has been shown is used up; otherwise this is the training.
    for _ in records:
        pass
    trained = replace(untrained, net=final_net(state).cpu(), temperature=1.0, conformity=None)
    return trained, tuple(state.history)


def untrained_classifier(net: Network, splits: Splits, *, seed: int) -> Classifier:
    """A classifier whose preprocessing is fitted to the training images.

    net: as for `train_classifier`; a classifier is returned as it is. A pretrained network has its
    weights, the preprocessing they expect, and an untrained head. Raises UsageError, ModelError
    and DataError for a network or images that do not fit together.
    """
    given = network_of(net)
    require_splits(splits)
    if isinstance(given, Classifier):
        require_same_classes(splits.train, given)
        require_network_size(splits.train, given.preprocessing)
        if given.is_multi_label and not splits.train.is_multi_label:
            raise DataError(
                "the classifier gives an image any number of labels, but the images have one "
                "label each: train a new network on them"
            )
        return given
    if isinstance(given, ModelSettings):
        return _from_settings(given, splits, seed)
    preprocessing = fit_preprocessing(splits.train, resize=splits.resize)
    ready = checked_net(logit_net(given), splits.train, preprocessing, seed=seed)
    layers = describe_sequential(ready)
    architecture = None
    if layers is not None:
        shape = (3, splits.train.height, splits.train.width)
        described = ModelSettings(layers=layers)
        architecture = architecture_of(described, len(splits.class_names), shape)
    return Classifier(
        ready,
        preprocessing,
        splits.class_names,
        architecture=architecture,
        thresholds=first_thresholds(splits.train),
    )


def _from_settings(settings: ModelSettings, splits: Splits, seed: int) -> Classifier:
    if settings.pretrained is not None:
        adapted = adapt(settings.pretrained, splits.train, resize=splits.resize, seed=seed)
        return replace(adapted.classifier, mirror=settings.mirror, shifts=settings.shifts)
    preprocessing = fit_preprocessing(splits.train, settings.scaling, splits.resize)
    class_count = len(splits.class_names)
    shape = (3, splits.train.height, splits.train.width)
    net = build(settings, class_count, shape, seed=derive(seed, "weights"))
    fit_whitening(net, splits.train, preprocessing)
    architecture = architecture_of(settings, class_count, shape)
    return Classifier(
        net,
        preprocessing,
        splits.class_names,
        architecture=architecture,
        mirror=settings.mirror,
        shifts=settings.shifts,
        thresholds=first_thresholds(splits.train),
    )


def require_splits(splits: Splits) -> None:
    """Raise UsageError for what is no Splits, and DataError where they cannot be trained on.

    That is: without training or validation images, and where sizes, classes or kinds of labels
    differ between the splits.
    """
    require_type(splits, Splits, "splits, from load_splits or Splits(train, validation, test)")
    for name, images in (("training", splits.train), ("validation", splits.validation)):
        if not len(images):
            raise DataError(
                f"the {name} split has no images: expected one or more; load_splits holds out "
                "validation images by itself"
            )
    require_alike_splits(splits.train, splits.validation, splits.test)


def require_balance_fits(settings: TrainSettings, images: ImageSet) -> None:
    """Raise UsageError for settings that balance classes where images may have several labels."""
    for key, value in (("sampling", settings.sampling), ("class_weights", settings.class_weights)):
        if images.is_multi_label and value == "balanced":
            raise UsageError(
                f"train.{key} = 'balanced' needs one label per image, but these may have several: "
                "leave it unset. The thresholds of rare labels are chosen on validation images."
            )


def class_weights_of(settings: TrainSettings, splits: Splits) -> tuple[float, ...] | None:
    """The weight of each class in the loss, or None where all count alike.

    Raises UsageError for settings that balance classes where images may have several labels.
    """
    require_balance_fits(settings, splits.train)
    if settings.class_weights == "none":
        return None
    weights = class_weights(splits.train.labels, len(splits.class_names))
    return tuple(float(weight) for weight in weights)


def train_until_done(state: TrainingState, setup: TrainingSetup) -> Iterator[Step | Epoch]:
    """The training loop, with early stopping where the settings ask for it."""
    patience = setup.settings.early_stopping
    if patience and has_stalled(state.history, patience):
        return
    for record in train(state, setup):
        yield record
        if patience and isinstance(record, Epoch) and has_stalled(state.history, patience):
            return


def describe_early_end(settings: TrainSettings, losses: Sequence[float]) -> str | None:
    """Where early stopping ended the training and what it kept; None where it did not.

    losses: the validation loss of each epoch.
    """
    if settings.early_stopping is None or not losses or len(losses) >= settings.epochs:
        return None
    best = max(
        number
        for number, loss in enumerate(losses, 1)
        if all(loss < earlier for earlier in losses[: number - 1])
    )
    kept = best if settings.keep == "best" else len(losses)
    of = "" if has_no_end(settings.epochs) else f" of {settings.epochs}"
    return (
        f"Training stopped early, after epoch {len(losses)}{of}: the validation "
        f"loss has not improved since epoch {best}. The weights of epoch {kept} were kept."
    )


def fit_preprocessing(
    train_set: ImageSet, scaling: str = "rescale", resize: Resize = "crop"
) -> Preprocessing:
    """Rescaling to 0..1, or standardisation with mean and deviation of the training images.

    scaling: a value of ``model.scaling``.
    """
    plain = Preprocessing(train_set.height, train_set.width, resize)
    if scaling == "rescale":
        return plain
    is_global = scaling == "standardize_global"
    statistics = global_statistics if is_global else channel_statistics
    mean, std = statistics(train_set.survey)
    return Preprocessing(plain.height, plain.width, plain.resize, mean, std)
