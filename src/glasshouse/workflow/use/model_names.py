"""From a model's name on the command line to the model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from glasshouse.errors import ModelError, UsageError
from glasshouse.models import pretrained
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing, load_classifier
from glasshouse.models.known_names import bundled_names, unknown_name
from glasshouse.models.layers import build
from glasshouse.models.presets import preset_names
from glasshouse.models.zoo import create, split_name
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.runs import folder as runs
from glasshouse.settings import ModelSettings, Recipe
from glasshouse.workflow.use.predictions import load_run_classifier


def classifier_by_name(
    name: str | Path, *, weights: Path | None = None, offline: bool = False
) -> Classifier:
    """The trained classifier of a name, in evaluation mode on the CPU.

    name: a run folder, a folder that save_classifier wrote, a bundled model, or a network of
    torchvision or timm with its published weights or those of a file. Arguments of the network,
    and mean, std and input_size of its preprocessing, may follow a colon:
    ``mobilenetv2_100:pad_type=same,mean=0.5``. Raises UsageError, naming the closest match.
    """
    name = str(name)
    if runs.names_folder(name):
        _require_no_weights(name, weights)
        folder = Path(name)
        has_run = (folder / runs.RECIPE).is_file() or not (folder / MODEL_FILE).is_file()
        return load_run_classifier(folder) if has_run else load_classifier(folder)
    return classifier_without_folder(name, weights=weights, offline=offline)


def classifier_without_folder(
    name: str, *, weights: Path | None = None, offline: bool = False
) -> Classifier:
    """The same for names that cannot be folders: a bundled model or a library's network."""
    if name in bundled_names():
        _require_no_weights(name, weights)
        return load_bundled(name)
    bare, arguments = split_name(name, {})
    _require_known(bare)
    levels = ("mean", "std", "input_size")
    wanted: dict[str, Any] = {key: arguments.pop(key) for key in levels if key in arguments}
    found = create(bare, weights=weights or "usual", arguments=arguments, offline=offline)
    known = found.classifier.preprocessing
    return replace(found.classifier, preprocessing=_changed(known, wanted))


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


def _built(
    settings: ModelSettings, size: int, class_count: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    shape = (3, size, size)
    return build(settings, class_count, shape, seed=0), shape


def _require_no_weights(name: str, weights: Path | None) -> None:
    if weights is not None:
        raise UsageError(
            f"{name} has its own weights: --weights is for networks that `glasshouse models` lists"
        )


def _require_known(name: str, others: Sequence[str] = ()) -> None:
    try:
        pretrained.find_model(name)
    except ModelError as error:
        networks = tuple(card.name for card in pretrained.list_models())
        raise unknown_name(name, networks, tuple(others)) from error


def _changed(known: Preprocessing, wanted: dict[str, Any]) -> Preprocessing:
    """The preprocessing with other values; raises UsageError for one that is not a number."""
    for key, value in wanted.items():
        if not isinstance(value, int | float) or (key != "mean" and value <= 0):
            raise UsageError(f"{key}={value}: expected a number, for example mean=0.5")
    changes: dict[str, Any] = {k: (float(wanted[k]),) * 3 for k in ("mean", "std") if k in wanted}
    if "input_size" in wanted:
        changes["height"] = changes["width"] = int(wanted["input_size"])
    return replace(known, **changes)
