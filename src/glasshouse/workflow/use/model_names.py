"""From a model's name on the command line to the model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from glasshouse.errors import ModelError, UsageError
from glasshouse.models import pretrained
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing, load_classifier
from glasshouse.models.known_names import bundled_names, require_own_weights, unknown_name
from glasshouse.models.layers import build
from glasshouse.models.logit_net import as_logit_net
from glasshouse.models.presets import preset_names
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights
from glasshouse.models.zoo import create, create_with_names, split_name
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.runs import folder as runs
from glasshouse.settings import ModelSettings, Recipe
from glasshouse.workflow.use.own_code import level, own_net, own_net_of, parse_own_code


def classifier_by_name(
    name: str | Path,
    *,
    weights: Path | None = None,
    offline: bool = False,
    class_names: tuple[str, ...] | None = None,
    own_code: str | None = None,
) -> Classifier:
    """The trained classifier of a name, in evaluation mode on the CPU.

    name: a run folder, a folder that save_classifier wrote, a bundled model, or a network of
    torchvision or timm with its published weights or those of a file. Arguments of the network,
    and mean, std and input_size of its preprocessing, may follow a colon:
    ``mobilenetv2_100:pad_type=same,mean=0.5``. class_names: in the order of the outputs of a
    library's network. own_code: FILE.py:FUNCTION that builds the network of a run trained with
    code of the user's own. Raises UsageError, naming the closest match.
    """
    name = str(name)
    if runs.names_folder(name):
        require_own_weights(name, weights, class_names)
        folder = Path(name)
        has_run = (folder / runs.RECIPE).is_file() or not (folder / MODEL_FILE).is_file()
        if has_run:
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
    if name in bundled_names():
        require_own_weights(name, weights, class_names)
        return load_bundled(name)
    bare, arguments = split_name(name, {})
    _require_known(bare)
    levels = ("mean", "std", "input_size")
    wanted: dict[str, Any] = {key: arguments.pop(key) for key in levels if key in arguments}
    source: Path | Literal["usual"] = weights or "usual"
    if class_names is None:
        found = create(bare, weights=source, arguments=arguments, offline=offline)
    else:
        found = create_with_names(
            bare, class_names, weights=source, arguments=arguments, offline=offline
        )
    known = _changed(found.classifier.preprocessing, wanted)
    try:
        return replace(found.classifier, preprocessing=known)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error


def net_by_name(
    name: str, overrides: Sequence[str], *, size: int, class_count: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network of a name, with its input shape ``(3, h, w)``.

    name: as for `classifier_by_name`, or a preset or recipe. A library's network comes without its
    weights, which a summary does not need.
    """
    if name in recipe_names() or name.endswith(".toml"):
        return _built(load_recipe(name, overrides).model, size, class_count)
    if name in preset_names():
        return _built(Recipe(model=ModelSettings(preset=name)).model, size, class_count)
    if runs.names_folder(name) or name in bundled_names():
        classifier = classifier_by_name(name)
    else:
        _require_known(name.partition(":")[0], (*preset_names(), *recipe_names()))
        classifier = create(name, weights="none").classifier
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
    return build(settings, class_count, shape, seed=0), shape


def _require_known(name: str, others: Sequence[str] = ()) -> None:
    try:
        pretrained.find_model(name)
    except ModelError as error:
        networks = tuple(card.name for card in pretrained.list_models())
        raise unknown_name(name, networks, tuple(others)) from error


def _changed(known: Preprocessing, wanted: dict[str, Any]) -> Preprocessing:
    """The preprocessing with other values; raises UsageError for one that is not a number."""
    changes: dict[str, Any] = {
        key: level(key, wanted[key]) for key in ("mean", "std") if key in wanted
    }
    size = wanted.get("input_size")
    if size is not None:
        if not isinstance(size, int) or size <= 0:
            raise UsageError(f"input_size={size}: expected a number of pixels")
        changes["height"] = changes["width"] = size
    return replace(known, **changes)
