"""From the name that a user gives to the thing it names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from glasshouse.errors import ModelError, UsageError, did_you_mean
from glasshouse.models import pretrained
from glasshouse.models.bundled import bundled_names, load_bundled
from glasshouse.models.classifier import MODEL_FILE, Classifier, Preprocessing, load_classifier
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
    """The trained classifier that MODEL means, in evaluation mode on the CPU.

    name: a run folder, a folder that save_classifier wrote, a bundled model, or a net of the zoo
    with its usual weights or those of a file. Behind a colon may stand arguments of the net and
    mean, std and input_size of its preprocessing: ``mobilenetv2_100:pad_type=same,mean=0.5``.
    Raises UsageError with the nearest name.
    """
    name = str(name)
    if _is_folder(name):
        _require_no_weights(name, weights)
        folder = Path(name)
        has_run = (folder / runs.RECIPE).is_file() or not (folder / MODEL_FILE).is_file()
        return load_run_classifier(folder) if has_run else load_classifier(folder)
    return classifier_without_folder(name, weights=weights, offline=offline)


def classifier_without_folder(
    name: str, *, weights: Path | None = None, offline: bool = False
) -> Classifier:
    """What MODEL means where no folder can be meant: a bundled model or a net of the zoo."""
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
    """The net that a name means, with its input shape ``(3, h, w)``; trained where MODEL is.

    Besides what `classifier_by_name` takes, a preset or a recipe by name; nets of the zoo come
    without their weights, which take no part in a summary.
    """
    if name in recipe_names() or name.endswith(".toml"):
        return _built(load_recipe(name, overrides).model, size, class_count)
    if name in preset_names():
        return _built(Recipe(model=ModelSettings(preset=name)).model, size, class_count)
    if _is_folder(name) or name in bundled_names():
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


def _is_folder(name: str) -> bool:
    # A name with a slash that is neither of a library's nets can only be meant as a path.
    is_zoo = name.partition("/")[0] in ("torchvision", "timm")
    return Path(name).is_dir() or ("/" in name and not is_zoo)


def _require_no_weights(name: str, weights: Path | None) -> None:
    if weights is not None:
        raise UsageError(
            f"{name} has its own weights: --weights goes with a net that `glasshouse models` lists"
        )


def _require_known(name: str, others: Sequence[str] = ()) -> None:
    try:
        pretrained.find_model(name)
    except ModelError as error:
        ours = (*bundled_names(), *others)
        hint = did_you_mean(name, ours) if ours else ""
        nearest = hint if hint.startswith("Did") else str(error).rpartition("'. ")[2]
        raise UsageError(
            f"'{name}' is neither a run folder nor a bundled model"
            f"{' nor a preset nor a recipe' if others else ''} nor a net of torchvision or timm. "
            f"{nearest}"
        ) from error


def _changed(known: Preprocessing, wanted: dict[str, Any]) -> Preprocessing:
    """The preprocessing with other levels or another size; raises UsageError for no number."""
    for key, value in wanted.items():
        if not isinstance(value, int | float) or (key != "mean" and value <= 0):
            raise UsageError(f"{key}={value}: expected a number, for example mean=0.5")
    changes: dict[str, Any] = {k: (float(wanted[k]),) * 3 for k in ("mean", "std") if k in wanted}
    if "input_size" in wanted:
        changes["height"] = changes["width"] = int(wanted["input_size"])
    return replace(known, **changes)
