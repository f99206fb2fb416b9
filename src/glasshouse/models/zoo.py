"""Classifiers made of torchvision's and timm's networks and their published weights."""

import shlex
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from glasshouse.errors import (
    GlasshouseWarning,
    ModelError,
    WrongInputSize,
    WrongWeights,
)
from glasshouse.models import pretrained
from glasshouse.models.bundled import bundled_backbone, load_bundled
from glasshouse.models.classifier import Classifier
from glasshouse.models.derived_weights import with_derived
from glasshouse.models.known_names import bundled_names, require_unchanged
from glasshouse.models.library_weights import translated, with_channels
from glasshouse.models.nearest_network import OWN_CODE, describe_nearest
from glasshouse.models.net_arguments import split_name
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.pretrained import WeightNames
from glasshouse.models.renamed_parts import with_own_names
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weight_names import without_prefix
from glasshouse.models.weights import COUNTER, load_weights
from glasshouse.settings import PretrainedSettings


@dataclass(frozen=True)
class Created:
    """A classifier, and sentences on where its weights come from."""

    classifier: Classifier
    notes: tuple[str, ...]


def create(
    name: str,
    class_names: tuple[str, ...] | None = None,
    *,
    weights: Path | Literal["usual", "none"] = "usual",
    arguments: Mapping[str, Any] | None = None,
    offline: bool = False,
    seed: int = 0,
) -> Created:
    """Create the network of this name, in evaluation mode on the CPU, for its own image size.

    class_names: None keeps the classes of the weights, which must then include a head; otherwise
    the head is replaced if the number of classes differs. weights: the published ones, none, or a
    file. arguments: for the constructor; more may follow the name, as in
    ``mobilenetv2_100:pad_type=same``. A bundled model has its own weights and takes neither.
    Raises ModelError.
    """
    bare, arguments = split_name(name, arguments or {})
    if bare in bundled_names():
        require_unchanged(bare, has_changes=weights != "usual" or bool(arguments))
        return _from_bundled(bare, class_names)
    class_count = None if class_names is None else len(class_names)
    parts = _assemble(bare, class_count, weights, arguments, offline=offline, seed=seed)
    # One output is a sigmoid's, which tells two classes apart.
    return parts.with_names(
        class_names or pretrained.usual_class_names(bare, max(parts.outputs, 2))
    )


def create_with_names(
    name: str,
    class_names: tuple[str, ...],
    *,
    weights: Path | Literal["usual"] = "usual",
    arguments: Mapping[str, Any] | None = None,
    offline: bool = False,
) -> Created:
    """The same with the head of the weights, whose outputs get these names."""
    bare, arguments = split_name(name, arguments or {})
    parts = _assemble(bare, None, weights, arguments, offline=offline)
    return parts.with_names(class_names)


@dataclass(frozen=True)
class _Parts:
    """All of a classifier but the names of its classes; outputs: their number, 0 if unknown."""

    name: str
    net: nn.Module
    preprocessing: Preprocessing
    outputs: int
    arguments: Mapping[str, Any]
    notes: tuple[str, ...]

    def with_names(self, class_names: tuple[str, ...]) -> Created:
        """Raises ModelError for a network that cannot be used, or not with these classes."""
        try:
            classifier = Classifier(
                self.net.eval(),
                self.preprocessing,
                class_names,
                architecture=pretrained.architecture_of_pretrained(
                    self.name, self.outputs, self.arguments
                ),
            )
        except ModelError as error:
            given = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
            with_given = f" with {given}" if given else ""
            is_sized = pretrained.size_in(self.arguments) is not None
            kind = WrongInputSize if is_sized else ModelError
            raise kind(f"{self.name} cannot be used{with_given}: {error}") from error
        return Created(classifier, self.notes)


def _assemble(
    name: str,
    class_count: int | None,
    weights: Path | str,
    arguments: Mapping[str, Any],
    *,
    offline: bool,
    seed: int = 0,
) -> _Parts:
    """class_count: None keeps the head of the weights."""
    # First, so that a wrong argument does not cost a download.
    known = pretrained.weight_names(name, arguments)
    found = None if weights == "none" else _find(name, weights, offline)
    file = None if found is None else _read(found, known)
    keeps_head = class_count is None
    if file is not None and keeps_head:
        class_count = _classes_in(file, name, arguments, known)
    # Built without the library's own download: the file is found, verified and loaded here.
    net = pretrained.build_net(name, class_count, arguments, seed=seed)
    replaceable = () if keeps_head else known.head
    notes = () if file is None else _fill(net, name, file, replaceable, arguments)
    usual = pretrained.preprocessing_of(name, None if file is None else file.path.name)
    wanted = _sized(usual, pretrained.size_in(arguments))
    return _Parts(name, net, wanted, class_count or _count_classes(net, known), arguments, notes)


def _sized(known: Preprocessing, size: int | None) -> Preprocessing:
    """The preprocessing for the image size that a network such as a ViT was built for."""
    return known if size is None else replace(known, height=size, width=size)


def usual_preprocessing(settings: PretrainedSettings) -> Preprocessing:
    """The preprocessing that a network expects, at its own image size or that of its arguments."""
    name, arguments = split_name(settings.name, settings.arguments)
    if name in bundled_names():
        return load_bundled(name).preprocessing
    return _sized(pretrained.preprocessing_of(name), pretrained.size_in(arguments))


def arguments_for(settings: PretrainedSettings) -> tuple[str, dict[str, Any]]:
    """The bare name of a network, and the arguments with which it takes settings.input_size.

    A network such as a ViT has to be built for the size of its images.
    """
    name, arguments = split_name(settings.name, settings.arguments)
    if settings.input_size is None or name in bundled_names():
        return name, arguments
    return name, pretrained.sized_arguments(name, arguments, settings.input_size)


def weights_of(settings: PretrainedSettings) -> Path | Literal["usual", "none"]:
    """The weights of the settings, as `create` takes them."""
    if settings.weights == "usual":
        return "usual"
    return "none" if settings.weights == "none" else Path(settings.weights)


def require_weights(settings: PretrainedSettings, *, offline: bool) -> None:
    """Have the published weights on this machine, if the settings ask for them.

    Called before anything slow. Raises ModelError where they cannot be had.
    """
    name, arguments = split_name(settings.name, settings.arguments)
    if settings.weights != "usual" or name in bundled_names():
        return
    with suppress(ModelError):
        pretrained.usual_weights(name, offline=True)
        return
    pretrained.weight_names(name, arguments)  # so that a wrong argument does not cost a download
    pretrained.usual_weights(name, offline=offline)


def with_levels(known: Preprocessing, settings: PretrainedSettings) -> Preprocessing:
    """The preprocessing with the mean and std of the settings, where they are set."""
    mean = known.mean if settings.mean is None else _channels(settings.mean)
    std = known.std if settings.std is None else _channels(settings.std)
    return replace(known, mean=mean, std=std)


def _channels(level: float | tuple[float, float, float]) -> tuple[float, float, float]:
    return level if isinstance(level, tuple) else (level, level, level)


@dataclass(frozen=True)
class _File:
    """The weights of a file under the network's names, and notes on how they were read.

    as_found: the same under the names in the file.
    """

    path: Path
    weights: Mapping[str, Tensor]
    notes: tuple[str, ...]
    as_found: Mapping[str, Tensor]


def _from_bundled(name: str, class_names: tuple[str, ...] | None) -> Created:
    if class_names is None:
        return Created(load_bundled(name), ())
    note = f"The weights are those of {name}, which comes with Glasshouse; its head is new."
    return Created(bundled_backbone(name, class_names), (note,))


def _find(name: str, weights: Path | str, offline: bool) -> Path:
    if isinstance(weights, Path):
        return weights
    return pretrained.usual_weights(name, offline=offline)


def _read(path: Path, known: WeightNames) -> _File:
    found, notes = read_weights(path)
    weights, removed = without_prefix(found, known.all, path)
    if not _has_all(weights, known):
        whole, derived = with_derived(found)
        weights, removed = without_prefix(whole, known.all, path)
        notes = (*notes, *derived)
    if not _has_all(weights, known):
        renamed, how = with_own_names(whole, known.shapes, known.head)
        if how:
            warnings.warn(f"{path}: {how}", GlasshouseWarning, stacklevel=2)
            weights, removed = renamed, (f"{path.name}: {how}",)
    return _File(path, weights, (*notes, *removed), found)


def _has_all(weights: Mapping[str, Tensor], known: WeightNames) -> bool:
    return all(key in weights for key in known.all if not key.endswith(COUNTER))


def _fill(
    net: nn.Module,
    name: str,
    file: _File,
    replaceable: Collection[str],
    arguments: Mapping[str, Any],
) -> tuple[str, ...]:
    weights, notes = dict(file.weights), file.notes
    auxiliary = [key for key in weights if key.startswith(pretrained.AUXILIARY_HEADS)]
    if auxiliary and not any(
        key.startswith(pretrained.AUXILIARY_HEADS) for key in net.state_dict()
    ):
        weights = {key: value for key, value in weights.items() if key not in auxiliary}
        notes = (*notes, "the auxiliary heads, which only training uses, were dropped")
    size = pretrained.size_in(arguments)
    fitted = translated(name, net, weights, is_resized=size is not None)
    fitted, adapted = with_channels(net, fitted, arguments.get("in_chans", 3))
    try:
        return *notes, *adapted, *load_weights(net, fitted, file.path, replaceable=replaceable)
    except WrongWeights as error:
        if size is not None and weights.keys() == net.state_dict().keys():
            raise WrongInputSize(
                f"{name} cannot be used at {size}x{size}: weights of it depend on the image size, "
                f"and cannot be interpolated ({error}) Its own size is "
                f"{pretrained.preprocessing_of(name).height}; without weights it is built for any."
            ) from error
        nearest = describe_nearest(name, file.path.name, file.as_found)
        raise WrongWeights(f"{error} {nearest}".rstrip()) from error


def _classes_in(
    file: _File, name: str, arguments: Mapping[str, Any], known: WeightNames
) -> int | None:
    """The number of classes of a file's head; None for a file that is of another network.

    Raises ModelError for a file without a head.
    """
    weights = file.weights
    if not known.head <= weights.keys():
        # The original authors may call the head by another name.
        weights = translated(name, pretrained.build_net(name, None, arguments), weights)
    missing = sorted(key for key in known.head if key not in weights)
    if not missing:
        return max((int(weights[key].shape[0]) for key in known.head), default=0)
    needed = (key for key in known.all - known.head if not key.endswith(COUNTER))
    if any(key not in weights for key in needed):
        return None  # which is raised with the names of what does not fit
    place = f"{missing[0].rpartition('.')[0]}."
    other = next((key for key in weights if place in key and key not in known.all), None)
    if other is not None:
        raise ModelError(
            f"{file.path} has {other} in the place of {missing[0]}, as of a head that is quantised "
            f"or otherwise changed: {OWN_CODE} {file.path}"
        )
    where = str(file.path.resolve())
    command = ["glasshouse", "train", "SOURCE", "--backbone", name, "--weights", where]
    raise ModelError(
        f"{file.path} has no head for {name} ({missing[0]} is missing), so it cannot name classes. "
        f"Train a head: {shlex.join(command)}"
    )


def _count_classes(net: nn.Module, known: WeightNames) -> int:
    state = net.state_dict()
    return max((int(state[key].shape[0]) for key in known.head), default=0)
