"""Classifiers made of torchvision's and timm's networks and their published weights."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from glasshouse.errors import ModelError, WrongWeights
from glasshouse.models import pretrained
from glasshouse.models.bundled import bundled_backbone, load_bundled
from glasshouse.models.classifier import Classifier
from glasshouse.models.known_names import bundled_names
from glasshouse.models.nearest_network import describe_nearest
from glasshouse.models.net_arguments import parsed_arguments
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.pretrained import WeightNames
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weight_names import without_prefix
from glasshouse.models.weights import COUNTER, load_weights


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
        return _from_bundled(bare, class_names, has_changes=weights != "usual" or bool(arguments))
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
            raise ModelError(f"{self.name} cannot be used{with_given}: {error}") from error
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
    found = None if weights == "none" else _find(name, weights, offline)
    known = pretrained.weight_names(name, arguments)
    file = None if found is None else _read(found, known)
    keeps_head = class_count is None
    if file is not None and keeps_head:
        class_count = _classes_in(file, name, arguments, known)
    # Built without the library's own download: the file is found, verified and loaded here.
    net = pretrained.build_net(name, class_count, arguments, seed=seed)
    replaceable = () if keeps_head else known.head
    notes = () if file is None else _fill(net, name, file, replaceable)
    wanted = _sized(
        pretrained.preprocessing_of(name, None if file is None else file.path.name), arguments
    )
    return _Parts(name, net, wanted, class_count or _count_classes(net, known), arguments, notes)


def _sized(known: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing for the image size that a network such as a ViT was built for."""
    size = arguments.get("img_size", arguments.get("image_size"))
    if isinstance(size, int) and size > 0:
        return replace(known, height=size, width=size)
    return known


def usual_preprocessing(name: str) -> Preprocessing:
    """The preprocessing that the usual weights of a network expect, at their own image size."""
    if name in bundled_names():
        return load_bundled(name).preprocessing
    return pretrained.preprocessing_of(name)


def split_name(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:key=value,...`` into the name and all arguments; raises ModelError."""
    bare, colon, text = name.partition(":")
    return bare, {**arguments, **(parsed_arguments(name, text) if colon else {})}


@dataclass(frozen=True)
class _File:
    """The weights of a file, and notes on how they were read."""

    path: Path
    weights: Mapping[str, Tensor]
    notes: tuple[str, ...]


def _from_bundled(name: str, class_names: tuple[str, ...] | None, *, has_changes: bool) -> Created:
    if has_changes:
        raise ModelError(f"{name} comes with its weights and takes no other weights or arguments")
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
    return _File(path, weights, (*notes, *removed))


def _fill(net: nn.Module, name: str, file: _File, replaceable: Collection[str]) -> tuple[str, ...]:
    weights, notes = dict(file.weights), file.notes
    auxiliary = [key for key in weights if key.startswith(pretrained.AUXILIARY_HEADS)]
    if auxiliary and not any(
        key.startswith(pretrained.AUXILIARY_HEADS) for key in net.state_dict()
    ):
        weights = {key: value for key, value in weights.items() if key not in auxiliary}
        notes = (*notes, "the auxiliary heads, which only training uses, were dropped")
    weights = dict(pretrained.renamed(name, net, weights))
    try:
        return *notes, *load_weights(net, weights, file.path, replaceable=replaceable)
    except WrongWeights as error:
        nearest = describe_nearest(name, file.path.name, file.weights)
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
        weights = pretrained.renamed(name, pretrained.build_net(name, None, arguments), weights)
    missing = sorted(key for key in known.head if key not in weights)
    if not missing:
        return max((int(weights[key].shape[0]) for key in known.head), default=0)
    needed = (key for key in known.all - known.head if not key.endswith(COUNTER))
    if any(key not in weights for key in needed):
        return None  # which is raised with the names of what does not fit
    where = str(file.path.resolve())
    command = ["glasshouse", "train", "SOURCE", "--backbone", name, "--weights", where]
    raise ModelError(
        f"{file.path} has no head for {name} ({missing[0]} is missing), so it cannot name classes. "
        f"Train a head: {shlex.join(command)}"
    )


def _count_classes(net: nn.Module, known: WeightNames) -> int:
    state = net.state_dict()
    return max((int(state[key].shape[0]) for key in known.head), default=0)
