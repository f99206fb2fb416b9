"""From a model's name on the command line to the model."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from glasshouse.data.images import ImageSet
from glasshouse.errors import GlasshouseWarning, ModelError
from glasshouse.models import pretrained
from glasshouse.models.argument_hints import warn_of_arguments
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing, load_classifier
from glasshouse.models.known_names import (
    bundled_names,
    require_own_weights,
    require_unchanged,
    unknown_name,
)
from glasshouse.models.layers import build
from glasshouse.models.logit_net import as_logit_net
from glasshouse.models.nearest_network import file_as_model
from glasshouse.models.net_arguments import settings_for_use
from glasshouse.models.presets import preset_names
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights
from glasshouse.models.weights_folders import folder_as_model
from glasshouse.models.zoo import (
    arguments_for,
    create,
    create_with_names,
    weights_of,
    with_levels,
)
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.runs import folder as runs
from glasshouse.settings import ModelSettings, PretrainedSettings, Recipe
from glasshouse.storage import as_path
from glasshouse.training.adapting import adapt
from glasshouse.workflow.use.own_code import own_net, own_net_of, parse_own_code


def classifier_by_name(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    offline: bool = False,
    class_names: tuple[str, ...] | None = None,
    own_code: str | None = None,
) -> Classifier:
    """The trained classifier of a name, in evaluation mode on the CPU.

    name: a run folder, a folder that save_classifier wrote, a bundled model, or a network of
    torchvision or timm with its published weights or those of a file. Arguments of the network may
    follow a colon, and weights, mean, std and input_size as in model.pretrained:
    ``mobilenetv2_100:pad_type=same,mean=0.5``. class_names: in the order of the outputs of a
    library's network. own_code: FILE.py:FUNCTION that builds the network of a run trained with
    code of the user's own. Raises UsageError, naming the closest match.
    """
    name, weights = str(name), as_path(weights)
    if Path(name).is_file() and (error := file_as_model(Path(name), weights)) is not None:
        raise error
    if runs.names_folder(name):
        require_own_weights(name, weights, class_names)
        folder = Path(name)
        has_run = (folder / runs.RECIPE).is_file() or not (folder / MODEL_FILE).is_file()
        if has_run:
            if (error := folder_as_model(folder)) is not None:
                raise error
            runs.require_trained(folder)
        return load_classifier(folder, net=own_net_of(folder, own_code))
    return classifier_without_folder(
        name, weights=weights, offline=offline, class_names=class_names
    )


def classifier_without_folder(
    name: str,
    *,
    weights: Path | None = None,
    offline: bool = False,
    class_names: tuple[str, ...] | None = None,
) -> Classifier:
    """The same for names that cannot be folders: a bundled model or a library's network."""
    bare, colon, _ = name.partition(":")
    if bare in bundled_names():
        require_unchanged(bare, has_changes=bool(colon))
        require_own_weights(name, weights, class_names)
        return load_bundled(name)
    _require_known(bare)
    settings = settings_for_use(name, weights)
    bare, arguments = arguments_for(settings)
    source = weights_of(settings)
    if source == "none" or class_names is None:
        found = create(bare, class_names, weights=source, arguments=arguments, offline=offline)
    else:
        found = create_with_names(
            bare, class_names, weights=source, arguments=arguments, offline=offline
        )
    if source == "none":
        warnings.warn(
            f"{bare} has random weights, as weights=none says: its answers and maps mean nothing.",
            GlasshouseWarning,
            stacklevel=2,
        )
    known = with_levels(found.classifier.preprocessing, settings)
    if settings.input_size is not None:
        known = replace(known, height=settings.input_size, width=settings.input_size)
    try:
        classifier = replace(found.classifier, preprocessing=known)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    if isinstance(source, Path):
        warn_of_arguments(classifier, source)
    return classifier


def net_by_name(
    name: str, overrides: Sequence[str], *, size: int, class_count: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network of a name, with its input shape ``(3, h, w)``.

    name: as for `classifier_by_name`, or a preset or recipe. A library's network comes without its
    weights, which a summary does not need; that of a recipe has the head that training gives it.
    """
    if name in recipe_names() or name.endswith(".toml"):
        return _built(load_recipe(name, overrides).model, size, class_count)
    if name in preset_names():
        return _built(Recipe(model=ModelSettings(preset=name)).model, size, class_count)
    if runs.names_folder(name) or name in bundled_names():
        classifier = classifier_by_name(name)
    else:
        _require_known(name.partition(":")[0], (*preset_names(), *recipe_names()))
        settings = settings_for_use(name)
        bare, arguments = arguments_for(settings)
        classifier = create(bare, weights="none", arguments=arguments).classifier
        if settings.input_size is not None:
            return classifier.net, (3, settings.input_size, settings.input_size)
    wanted = classifier.preprocessing
    return classifier.net, (3, wanted.height, wanted.width)


def net_of_own_code(
    code: str,
    run: str | None,
    *,
    size: int,
    class_count: int,
    weights: Path | None = None,
    class_names: tuple[str, ...] | None = None,
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network of FILE.py:FUNCTION, alone or of a run, with its input shape ``(3, h, w)``.

    size and class_count: where neither the code, the run nor the class names say it. weights: a
    file, which must fit the network.
    """
    if run is not None:
        classifier = classifier_by_name(
            run, weights=weights, class_names=class_names, own_code=code
        )
        wanted = classifier.preprocessing
        return classifier.net, (3, wanted.height, wanted.width)
    parsed = parse_own_code(code)
    size = parsed.input_size or size
    net = own_net(parsed, len(class_names) if class_names else class_count)
    if weights is not None:
        load_weights(net, read_weights(weights)[0], weights)
    preprocessing = Preprocessing(size, size)
    return as_logit_net(net.eval(), preprocessing, class_names or ()), (3, size, size)


def _built(
    settings: ModelSettings, size: int, class_count: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    shape = (3, size, size)
    if settings.pretrained is not None:
        return _adapted(settings.pretrained, size, class_count), shape
    return build(settings, class_count, shape, seed=0), shape


def _adapted(settings: PretrainedSettings, size: int, class_count: int) -> nn.Module:
    """The network as training starts with it, of a library without its weights."""
    blank = ImageSet(
        np.zeros((1, 3, size, size), np.uint8),
        np.zeros(1, np.int64),
        np.array(["blank"]),
        tuple(f"class {number}" for number in range(class_count)),
    )
    if settings.name not in bundled_names():
        settings = settings.model_copy(update={"weights": "none"})
    return adapt(settings, blank).classifier.net


def _require_known(name: str, others: Sequence[str] = ()) -> None:
    try:
        pretrained.find_model(name)
    except ModelError as error:
        networks = tuple(card.name for card in pretrained.list_models())
        raise unknown_name(name, networks, tuple(others)) from error
