"""Training in one call, for a notebook or script without a run folder."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from glasshouse.data.images import ImageSet, Resize, Splits
from glasshouse.data.survey import channel_statistics, global_statistics
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.layers import architecture_of, build
from glasshouse.models.sequential import describe_sequential
from glasshouse.models.whitening import fit_whitening
from glasshouse.rng import derive
from glasshouse.settings import AugmentSettings, ModelSettings, TrainSettings
from glasshouse.training.adapting import adapt
from glasshouse.training.devices import choose_device
from glasshouse.training.finder import find_lr, with_found_rate
from glasshouse.training.heads import class_weights
from glasshouse.training.loop import Step, TrainingSetup, has_stalled, train
from glasshouse.training.schedules import Rate
from glasshouse.training.state import Epoch, TrainingState, begin, final_net


def train_classifier(
    net: nn.Module | ModelSettings,
    splits: Splits,
    settings: TrainSettings,
    *,
    augment: AugmentSettings | None = None,
    preprocessing: Preprocessing | None = None,
    rate: Rate | None = None,
) -> tuple[Classifier, tuple[Epoch, ...]]:
    """Train a copy of a network, or one that is built from settings, without a run folder.

    net: any module from float ``(n, 3, h, w)`` to logits ``(n, k)``, or model settings; a softmax
    at the end of a Sequential is left off, because loss and predictions apply it.
    preprocessing: the default is that of the settings, or rescaling to 0..1. rate: in place of
    settings.schedule, a function that is called once per epoch with an integer counted from 0, and
    returns the learning rate; EveryStep: one that changes within an epoch. Returns the classifier
    and the metrics of each epoch; the test split is not used. Raises DivergedError when the loss is
    not finite, and NoUsableRate with ``lr = "auto"`` and no usable valley.
    """
    untrained = untrained_classifier(net, splits, seed=settings.seed)
    if preprocessing is not None:
        untrained = replace(untrained, preprocessing=preprocessing)
    setup = TrainingSetup(
        splits.train,
        splits.validation,
        untrained.preprocessing,
        settings,
        augment or AugmentSettings(),
        rate,
        class_weights_of(settings, splits),
    )
    if settings.lr == "auto":
        settings = with_found_rate(settings, find_lr(untrained.net, setup))
        setup = replace(setup, settings=settings)
    state = begin(untrained.net, settings, choose_device(settings.device))
    for _ in train_until_done(state, setup):
        pass
    return replace(untrained, net=final_net(state)), tuple(state.history)


def untrained_classifier(
    net: nn.Module | ModelSettings, splits: Splits, *, seed: int
) -> Classifier:
    """A classifier whose preprocessing is fitted to the training images.

    A pretrained network has its weights, the preprocessing they expect, and an untrained head.
    """
    if isinstance(net, ModelSettings) and net.pretrained is not None:
        return adapt(net.pretrained, splits.train, resize=splits.resize, seed=seed).classifier
    scaling = net.scaling if isinstance(net, ModelSettings) else "rescale"
    preprocessing = fit_preprocessing(splits.train, scaling, splits.resize)
    class_count = len(splits.class_names)
    shape = (3, splits.train.height, splits.train.width)
    if isinstance(net, nn.Module):
        layers = describe_sequential(net)
        settings = None if layers is None else ModelSettings(layers=layers)
    else:
        settings = net
        net = build(settings, class_count, shape, seed=derive(seed, "weights"))
        fit_whitening(net, splits.train, preprocessing)
    architecture = None if settings is None else architecture_of(settings, class_count, shape)
    mirror = settings is not None and settings.mirror
    return Classifier(
        net, preprocessing, splits.class_names, architecture=architecture, mirror=mirror
    )


def class_weights_of(settings: TrainSettings, splits: Splits) -> tuple[float, ...] | None:
    """The weight of each class in the loss, or None where all count alike."""
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
