"""A pretrained network adapted to other images: their classes, their size, a fitted head."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glasshouse.data.images import ImageSet, Resize
from glasshouse.errors import WrongInputSize
from glasshouse.models.argument_hints import warn_of_adapted
from glasshouse.models.backbone import ResizedInput, initialize_head, locate_head, replace_head
from glasshouse.models.classifier import Classifier, Preprocessing, first_thresholds
from glasshouse.models.stem import Stem, refine_stem
from glasshouse.models.zoo import (
    arguments_for,
    create,
    usual_preprocessing,
    weights_of,
    with_levels,
)
from glasshouse.rng import derive
from glasshouse.settings import PretrainedSettings
from glasshouse.training.heads import HeadFit, dense_parameters
from glasshouse.wording import percentage


@dataclass(frozen=True)
class Adapted:
    """A classifier with a new head, and sentences on what was changed."""

    classifier: Classifier
    notes: tuple[str, ...]


def own_size(settings: PretrainedSettings) -> int:
    """The input size, in pixels per side, that the published weights were trained with."""
    return usual_preprocessing(settings).height


def adapt(
    settings: PretrainedSettings,
    images: ImageSet,
    *,
    resize: Resize = "crop",
    seed: int = 0,
    offline: bool = False,
) -> Adapted:
    """The pretrained network for the classes and the size of these images.

    Images of another size than settings.input_size are resized inside the network; unset, that is
    the network's own input size, or with a fine stem the size of the images. seed: of the new
    head. Raises ModelError for unknown names and weights that do not fit, and its subclass
    WrongInputSize when the network cannot take such images.
    """
    is_fine = settings.stem == "fine"
    # A network with a fine stem takes any size.
    plain = settings.model_copy(update={"input_size": None}) if is_fine else settings
    name, arguments = arguments_for(plain)
    created = create(
        name,
        images.class_names,
        weights=weights_of(settings),
        arguments=arguments,
        offline=offline,
        seed=derive(seed, "weights"),
    )
    known = created.classifier.preprocessing
    wanted = with_levels(known, settings)
    doubt = ""
    if isinstance(path := weights_of(settings), Path):
        doubt = warn_of_adapted(replace(created.classifier, preprocessing=wanted), path)
    usual = images.height if is_fine else created.classifier.preprocessing.height
    size = settings.input_size or usual
    stem = refine_stem(created.classifier.net) if is_fine else None
    net, changes = _fitted(created.classifier.net, settings, images, size)
    _require_size(net.eval(), settings, images, size)
    initialize_head(net, seed)
    architecture = {**(created.classifier.architecture or {}), **changes}
    classifier = replace(
        created.classifier,
        net=net.eval(),
        preprocessing=Preprocessing(images.height, images.width, resize, wanted.mean, wanted.std),
        architecture=architecture,
        thresholds=first_thresholds(images),
    )
    # Pages and reports show notes: who reads them has not seen the warning.
    notes = (*((doubt,) if doubt else ()), *created.notes, _size_note(images, size, known))
    return Adapted(classifier, notes if stem is None else (*notes, _stem_note(stem)))


def with_head(classifier: Classifier, fit: HeadFit) -> Classifier:
    """A copy of the classifier with a fitted head in place of its own."""
    net, dense = copy.deepcopy(classifier.net), dense_parameters(fit.layers)
    architecture = dict(classifier.architecture or {})
    # A single dense layer replaces the network's own where it has one, so that its usual layer
    # names remain.
    if len(dense) > 1 or not isinstance(net.get_submodule(locate_head(net).at), nn.Linear):
        hidden = len(dense[0][1]) if len(dense) > 1 else None
        architecture["head"] = replace_head(net, len(classifier.class_names), hidden=hidden)
    module = net.get_submodule(locate_head(net).at)
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, dense, strict=True):
            layer.weight.copy_(kernel)
            layer.bias.copy_(bias)
    return replace(classifier, net=net.eval(), architecture=architecture, conformity=None)


def _fitted(
    net: nn.Module, settings: PretrainedSettings, images: ImageSet, size: int
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with the requested head and input size, and what rebuilding it needs."""
    changes: dict[str, Any] = {"stem": "fine"} if settings.stem == "fine" else {}
    if (images.height, images.width) != (size, size):
        net = ResizedInput(net, size)
        changes["input_size"] = size
    if settings.hidden is not None or settings.dropout:
        changes["head"] = replace_head(
            net, len(images.class_names), hidden=settings.hidden, dropout=settings.dropout
        )
    return net, changes


def _require_size(
    net: nn.Module, settings: PretrainedSettings, images: ImageSet, size: int
) -> None:
    """Raise WrongInputSize when the network fails on an image of this size, as many do."""
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, images.height, images.width))
    # Networks of other libraries fail in many ways: assertions, shapes, windows that do not divide.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WrongInputSize(
            f"{settings.name} cannot take images of {size}x{size} ({reason}). Unset "
            f"model.pretrained.stem and set model.pretrained.input_size = {own_size(settings)}, "
            "its own input size"
        ) from error


def _size_note(images: ImageSet, size: int, known: Preprocessing) -> str:
    trained = f"its weights were trained at {known.width}x{known.height}"
    if images.height == size == known.height:
        left = f", without the usual crop to {percentage(known.crop_fraction, 1)}" * (
            known.crop_fraction < 1
        )
        return f"Images are read at {size}x{size}, the input size of the network{left}."
    if images.height == size:
        return f"The network sees images at their own size of {size}x{size}, and {trained}."
    verb = "enlarged" if size > images.height else "shrunk"
    return (
        f"Images of {images.width}x{images.height} are {verb} to {size}x{size} inside the network; "
        f"{trained}."
    )


def _stem_note(stem: Stem) -> str:
    pooling = "" if stem.pooling is None else f" and {stem.pooling} is removed"
    return (
        f"The stem is finer than usual: {stem.convolution} has stride 1{pooling}, so that feature "
        f"maps of small images are {stem.factor} times as wide and high; the weights are unchanged."
    )
