"""The networks of torchvision and timm by name.

``torchvision/NAME`` and ``timm/NAME`` are unambiguous. A bare name means torchvision's network if
there is one, otherwise timm's.
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models.known_names import is_match, unknown_network
from glasshouse.models.libraries import timm_library, torchvision_library
from glasshouse.models.logit_net import taking_rgb
from glasshouse.models.net_arguments import require_shaping
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.published import Published, fetch
from glasshouse.rng import derive

Source = Literal["torchvision", "timm"]

# Without their auxiliary heads, which in training would add outputs. Their weights expect an input
# normalisation that torchvision enables only together with its own download of the weights.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": False, "transform_input": True}
    for name in ("torchvision/googlenet", "torchvision/inception_v3")
}
# What some arguments set in each batch normalisation; few constructors take them.
_OF_NORMS = {"bn_momentum": "momentum", "bn_eps": "eps"}
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_CROP_MODES: dict[str, Literal["crop", "letterbox", "stretch"]] = {
    "center": "crop",
    "squash": "stretch",
    "border": "letterbox",
}
_IMAGENET_CLASSES = 1000
# What constructors call the size of the images, where layers depend on it.
_SIZES = ("img_size", "image_size", "input_size")


@dataclass(frozen=True)
class ModelCard:
    """What is known about a network without building it.

    input_size: channels, height and width that its published weights expect. license: of these
    weights. Both are None if there are no weights, or if it is not stated. parameters: including
    the published head; None until ``count_parameters`` has built the network.
    """

    name: str
    source: Source
    parameters: int | None
    input_size: tuple[int, int, int] | None
    license: str | None
    weights_url: str | None


def list_models(pattern: str = "*") -> tuple[ModelCard, ...]:
    """Every classification network whose name matches a pattern such as ``resnet*``, sorted.

    The library may precede the name, as in ``timm/vit*``.
    """
    return tuple(_card(name) for name in sorted(_names()) if is_match(*library_of(name), pattern))


def library_of(name: str) -> tuple[Source, str]:
    """The library of a name and its bare name; raises ModelError with the nearest name."""
    prefix, slash, bare = name.rpartition("/")
    if (not slash or prefix == "torchvision") and bare in _torchvision_names():
        return "torchvision", bare
    if (not slash or prefix == "timm") and bare.partition(".")[0] in _timm_names():
        return "timm", bare
    raise unknown_network(name, tuple(_names()))


def find_model(name: str) -> ModelCard:
    """The card of one network; raises ModelError with the nearest name if there is none."""
    source, bare = library_of(name)
    return _card(f"{source}/{bare}")


def count_parameters(card: ModelCard) -> ModelCard:
    """The card with its number of parameters, for which the network is built without memory."""
    if card.parameters is not None:
        return card
    net = bare_net(card.name, None, {})
    return replace(card, parameters=sum(p.numel() for p in net.parameters()))


def build_net(
    name: str, class_count: int | None, arguments: Mapping[str, Any], *, seed: int = 0
) -> nn.Module:
    """An untrained network with this number of classes; None: that of its published weights.

    arguments: for the constructor; with in_chans = 1 or 4 the network still takes RGB images, of
    which it makes its own channels. Equal seeds give equal weights. Raises ModelError for an
    unknown name or argument, and for one that does more than shape the network.
    """
    source, bare = library_of(name)
    require_shaping(name, arguments)
    given = {**_ARGUMENTS.get(f"{source}/{bare}", {}), **arguments}
    if class_count is not None:
        given["num_classes"] = class_count
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "pretrained"))
        try:
            net = _build(source, bare, given)
        # Constructors of other libraries fail on wrong values in many ways.
        except Exception as error:
            shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
            raise ModelError(f"{name} cannot be built with {shown}: {error}") from error
    return taking_rgb(net, arguments.get("in_chans", 3))


def bare_net(name: str, class_count: int | None, arguments: Mapping[str, Any]) -> nn.Module:
    """The same network, of whose weights there are only names and shapes where that is possible."""
    try:
        with torch.device("meta"):
            return build_net(name, class_count, arguments)
    except (ModelError, NotImplementedError):
        # Some constructors compute with values, which meta tensors do not have.
        return build_net(name, class_count, arguments)


def sized_arguments(name: str, arguments: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The arguments with which a network takes images of this size, in pixels per side.

    They are unchanged for one that takes any size, and for one that cannot be built for this one.
    """
    given = dict(arguments)
    net = bare_net(name, None, given)
    key = next((key for key in _SIZES if key in inspect.signature(type(net)).parameters), None)
    if key is None or size_in(given) is not None or _takes(net, size):
        return given
    sized = {**given, key: [size, size] if key == "input_size" else size}
    try:
        return sized if _takes(bare_net(name, None, sized), size) else given
    except ModelError:
        return given


def size_in(arguments: Mapping[str, Any]) -> int | None:
    """The image size, in pixels per side, that a network is built for by its arguments."""
    value = next((arguments[key] for key in _SIZES if key in arguments), None)
    if isinstance(value, list | tuple):
        value = value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) and value > 0 else None


def build_pretrained(architecture: Mapping[str, Any]) -> nn.Module:
    """The untrained network that ``architecture_of_pretrained`` describes."""
    try:
        name, count = str(architecture["pretrained"]), int(architecture["class_count"])
        arguments = dict(architecture["arguments"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the architecture does not describe a network: {error}") from error
    return build_net(name, count, arguments)


def architecture_of_pretrained(
    name: str, class_count: int, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``build_pretrained`` needs, as JSON values."""
    source, bare = library_of(name)
    return {
        "pretrained": f"{source}/{bare}",
        "arguments": dict(arguments),
        "class_count": class_count,
    }


@dataclass(frozen=True)
class WeightNames:
    """The names of a network's weights, and their shapes.

    head: those whose shape depends on the classes, of which shapes has seven.
    """

    all: frozenset[str]
    head: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]


def weight_names(name: str, arguments: Mapping[str, Any]) -> WeightNames:
    """The names of a network's weights, for which it is built without memory."""
    # Comparing two networks needs no table of what each architecture calls its last layer.
    few, more = (bare_net(name, count, arguments).state_dict() for count in (7, 11))
    head = (key for key, value in few.items() if more[key].shape != value.shape)
    shapes = {key: tuple(value.shape) for key, value in few.items()}
    return WeightNames(frozenset(few), frozenset(head), shapes)


def network_names() -> frozenset[str]:
    """All names: bare ones, and ``timm/NAME`` for the networks that both libraries have."""
    return _names()


def preprocessing_of(name: str, file: str | None = None) -> Preprocessing:
    """The preprocessing that the published weights expect, at their own image size.

    file: the name of a weights file, where torchvision has published several for a network.
    """
    source, bare = library_of(name)
    if source == "torchvision":
        return _torchvision_preprocessing(bare, file)
    timm = timm_library()
    config = timm.data.resolve_data_config(pretrained_cfg=_timm_config(bare).to_dict())
    _, height, width = config["input_size"]
    return Preprocessing(
        height,
        width,
        _CROP_MODES[config["crop_mode"]],
        tuple(config["mean"]),
        tuple(config["std"]),
        float(config["crop_pct"]),
        config["interpolation"],
        "timm",
    )


def usual_class_names(name: str, class_count: int) -> tuple[str, ...]:
    """The classes of the published weights; "class 0" and so on if they are not known."""
    if class_count == _IMAGENET_CLASSES:
        weights = torchvision_library().models.get_model_weights("resnet50").DEFAULT
        return tuple(weights.meta["categories"])
    # One output tells two classes apart.
    return tuple(f"class {number}" for number in range(max(class_count, 2)))


def usual_weights(name: str, *, offline: bool) -> Path:
    """The file of the published weights, downloaded into its library's cache if necessary.

    Raises ModelError that says which file is missing and where to put it.
    """
    card = find_model(name)
    if card.weights_url is None:
        raise ModelError(
            f"there are no published weights for {name}; train it from scratch, or name a weights "
            "file (--weights)"
        )
    if card.source == "torchvision":
        return fetch(Published(card.name, card.weights_url), offline=offline)
    config = _timm_config(library_of(name)[1])
    published = Published(card.name, card.weights_url, config.hf_hub_id, config.hf_hub_filename)
    return fetch(published, offline=offline)


def names_at_hand() -> list[str]:
    """The networks whose published weights are on this machine, sorted."""
    found = []
    for name in sorted(_names()):
        with suppress(ModelError):
            usual_weights(name, offline=True)
            found.append(name)
    return found


@cache
def _names() -> frozenset[str]:
    """Bare names, and ``timm/NAME`` for the networks that both libraries have."""
    ours, theirs = _torchvision_names(), _timm_names()
    return frozenset(ours | {f"timm/{name}" if name in ours else name for name in theirs})


def _card(name: str) -> ModelCard:
    source, bare = library_of(name)
    shown = name if name in _names() else bare
    if source == "torchvision":
        weights = torchvision_library().models.get_model_weights(bare).DEFAULT
        side = int(weights.transforms().crop_size[0])
        meta = weights.meta
        count = int(meta["num_params"])
        return ModelCard(shown, source, count, (3, side, side), meta.get("license"), weights.url)
    config = _timm_config(bare)
    file = config.hf_hub_filename or "model.safetensors"
    url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}"
    size = tuple(config.input_size)
    known = None if config.license in (None, "unknown") else config.license
    return ModelCard(
        shown,
        source,
        None,
        size,
        known,
        url if config.hf_hub_id else config.url or None,
    )


def _takes(net: nn.Module, size: int) -> bool:
    """Whether a network processes images of this size, which it need not compute for that."""
    where = next((p.device for p in net.parameters()), None)
    try:
        with torch.inference_mode():
            net.eval()(torch.empty(2, 3, size, size, device=where))
    # Assertions, shapes, windows that do not divide.
    except Exception:
        return False
    return True


def _build(source: Source, bare: str, given: Mapping[str, Any]) -> nn.Module:
    """The network of a library; torchvision's have no in_chans, so that their stem is replaced."""
    channels = given.get("in_chans", 3)
    is_adapted = source == "torchvision" and channels != 3
    if is_adapted and given.get("transform_input"):
        raise ModelError(
            f"{bare} takes three channels only, each of which it scales in its own way: choose "
            "another network for other channels, such as resnet18"
        )
    left_out = {*_OF_NORMS, *(["in_chans"] if source == "torchvision" else [])}
    own = {key: value for key, value in given.items() if key not in left_out}
    net: nn.Module = _builder(source, bare)(**own)
    if is_adapted:
        _adapt_stem(net, channels)
    for argument in _OF_NORMS.keys() & given.keys():
        _set_of_norms(net, argument, float(given[argument]))
    return net


def _set_of_norms(net: nn.Module, argument: str, value: float) -> None:
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise ModelError(f"it has no batch normalisation, so it takes no {argument}")
    for norm in norms:
        setattr(norm, _OF_NORMS[argument], value)


def _adapt_stem(net: nn.Module, channels: int) -> None:
    """Give the first convolution other input channels; its weights follow as timm's would."""
    stem = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    adapt = timm_library().models.adapt_input_conv
    stem.weight = nn.Parameter(adapt(channels, stem.weight.detach()))
    stem.in_channels = channels


def _builder(source: Source, bare: str) -> Any:
    if source == "torchvision":
        return torchvision_library().models.get_model_builder(bare)
    create = timm_library().create_model
    return lambda **given: create(bare, pretrained=False, **given)


def _torchvision_preprocessing(bare: str, file: str | None) -> Preprocessing:
    known = torchvision_library().models.get_model_weights(bare)
    # Later weights of a network are often made for another size before the crop.
    same = (weights for weights in known if weights.url.endswith(f"/{file}"))
    transforms = next(same, known.DEFAULT).transforms()
    side = int(transforms.crop_size[0])
    fraction = side / int(transforms.resize_size[0])
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    how = transforms.interpolation.value
    return Preprocessing(side, side, "crop", mean, std, fraction, how, "torchvision")


@cache
def _torchvision_names() -> frozenset[str]:
    models = torchvision_library().models
    return frozenset(models.list_models(module=models))


@cache
def _timm_names() -> frozenset[str]:
    return frozenset(timm_library().list_models())


def _timm_config(bare: str) -> Any:
    config = timm_library().models.get_pretrained_cfg(bare)
    if config is None:
        raise ModelError(f"timm has no weights '{bare}'; `glasshouse models` lists all names")
    return config
