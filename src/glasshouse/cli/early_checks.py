"""Checks of arguments that need neither torch nor images, so that a typing error costs no wait.

Commands call them before they import what takes seconds. What they do not know (the classes of
a network with published weights, say) is checked again where it is used.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from glasshouse.data.sources import has_own_size, read_again, require_source as require_source
from glasshouse.errors import BadImage, GlasshouseError, ModelError, UsageError
from glasshouse.models.known_names import (
    bundled_names,
    require_backbone,
    require_known,
    require_unchanged,
)
from glasshouse.models.net_arguments import require_shaping, settings_for_use, split_name
from glasshouse.models.presets import preset_layers, preset_names
from glasshouse.models.weights_folders import folder_as_model, why_no_weights
from glasshouse.recipe import load_recipe, recipe_names, require_effect
from glasshouse.runs import folder as runs
from glasshouse.settings import PretrainedSettings, Recipe


def require_model(model: str, weights: Path | None = None) -> None:
    """Raise UsageError for a name or folder that has no model, ModelError for missing weights."""
    if is_found(Path(model).is_file):
        require_no_file(Path(model), weights)
    if not runs.names_folder(model):
        require_known(model)
        require_usable(model, weights)
    elif not (Path(model) / runs.MODEL).is_file():
        if (error := folder_as_model(Path(model))) is not None:
            raise error
        runs.require_trained(Path(model))
    require_weights_file(weights)


def require_usable(name: str, weights: Path | None = None) -> None:
    """Raise what is wrong with what follows the name of a network or bundled model.

    weights: of --weights. Raises UsageError and ModelError.
    """
    bare, colon, _ = name.partition(":")
    if bare in bundled_names():
        require_unchanged(bare, has_changes=bool(colon))
    else:
        _require_settings(settings_for_use(name, weights))


def _require_settings(settings: PretrainedSettings) -> None:
    name, arguments = split_name(settings.name, settings.arguments)
    if name in bundled_names():
        require_unchanged(name, has_changes=settings.weights != "usual" or bool(arguments))
    require_shaping(name, arguments)
    if settings.weights not in ("usual", "none"):
        require_weights_file(Path(settings.weights))


def require_no_file(model: Path, weights: Path | None) -> None:
    """Raise UsageError, naming its network, for a weights file in the place of a model's name."""
    require_weights_file(weights)
    from glasshouse.models.nearest_network import file_as_model

    error = file_as_model(model, weights)
    if error is not None:
        raise error


def require_net(model: str, overrides: Sequence[str]) -> None:
    """Raise what `require_model` does, or for a recipe what is wrong with it or its overrides.

    model: a preset or a recipe as well. Raises UsageError for overrides of anything but a recipe.
    """
    if model in recipe_names() or model.endswith(".toml"):
        require_network(load_recipe(model, overrides))
        return
    if overrides:
        raise UsageError(f"--set overrides the keys of a recipe, but {model} is not a recipe")
    if runs.names_folder(model) or is_found(Path(model).is_file):
        require_model(model)
        return
    ours = (*preset_names(), *recipe_names())
    require_known(model, ours)
    bare, colon, _ = model.partition(":")
    if bare not in ours:
        require_usable(model)
    elif colon:
        raise UsageError(f"{model}: only networks of torchvision and timm take arguments")


def require_network(recipe: Recipe) -> None:
    """Raise what is wrong with the network of a recipe, as far as that is seen without torch.

    Raises RecipeError for a preset and ModelError for a network that nobody knows, and ModelError
    for an argument that no network takes and for weights to start from whose file is missing.
    """
    if recipe.model.preset is not None:
        preset_layers(recipe.model.preset)
    pretrained = recipe.model.pretrained
    if pretrained is not None:
        require_backbone(pretrained.name)
        _require_settings(pretrained)


def require_recipe(recipe: Recipe, on: str | None = None) -> None:
    """Raise what `require_network` does, and UsageError for a device that is not here.

    on: the cluster that trains, whose devices only its machines know.
    """
    require_network(recipe)
    device = recipe.train.device
    if on is None and device not in ("auto", "cpu"):
        # Torch knows the devices, and reading images takes longer than its import.
        from glasshouse.models.devices import choose_device

        choose_device(device)


def require_recipes(recipes: Sequence[Recipe], keys: Sequence[str], on: str | None) -> None:
    """The same for several, and RecipeError for a key without effect in any of them."""
    require_effect(recipes, keys)
    for each in recipes:
        require_recipe(each, on)


def require_weights_file(weights: Path | None) -> None:
    """Raise ModelError when a file of weights is missing."""
    if weights is not None and not weights.is_file():
        raise ModelError(f"the weights file {weights} {why_no_weights(weights)}")


def require_finished(folders: Sequence[Path]) -> None:
    """Raise UsageError for a folder that is no run, or a run that has not finished training."""
    for folder in folders:
        runs.require_trained(folder)


def is_found(check: Callable[[], bool]) -> bool:
    """What a check of a path says; False for a path that the system refuses, as one too long."""
    try:
        return check()
    except OSError:
        return False


def require_images(paths: Sequence[Path]) -> None:
    """Raise BadImage when none of the files exists, naming the first."""
    if paths and not any(is_found(path.exists) for path in paths):
        paths[0].exists()  # raises the system's own reason for a path that it refuses
        raise BadImage(paths[0], "the file does not exist")


def require_class(model: str, name: str | None) -> None:
    """Raise UsageError for a class that the model in a folder does not have."""
    from glasshouse.explanation.nouns import class_position
    from glasshouse.storage import read_json

    record = Path(model) / runs.MODEL
    if name is None or not record.is_file():
        return
    try:
        names = read_json(record)["class_names"]
    except (GlasshouseError, LookupError, TypeError):
        return  # A damaged model is named, with the reason, by the function that loads it.
    if names:
        class_position(name, tuple(names))


def require_folder_free_of_files(out: Path | None) -> None:
    """Raise UsageError when an output folder cannot be made, because a file is in its place."""
    if out is None:
        return
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"--out {out}: expected a folder, but {nearest} is a file")


def require_outside(out: Path | None, source: str) -> None:
    """Raise UsageError for an output folder inside the folder that the images come from."""
    if out is not None and _is_inside(out, source):
        raise UsageError(
            f"--out {out} is inside {source}, where its files would be among the images: name a "
            "folder elsewhere"
        )


def runs_folder(source: str) -> Path:
    """Where the runs of a source belong: in ``runs``, or next to a source that contains that."""
    usual = Path("runs")
    return Path(source).resolve().parent / usual if _is_inside(usual, source) else usual


def _is_inside(out: Path, source: str) -> bool:
    if has_own_size(source) or not is_found(Path(source).is_dir):
        return False
    return out.resolve().is_relative_to(Path(source).resolve())


def reread(wanted: bool, source: str | None, otherwise: str = "") -> None:
    """Have the files of a source decoded again, where --reread asks for it.

    source: None where the command reads no images as it was called; otherwise: what UsageError then
    says to add.
    """
    if not wanted:
        return
    if source is None:
        raise UsageError(f"--reread: here, no image comes from the cache; {otherwise}")
    require_source(source)
    read_again(source)


def reread_run(wanted: bool, run: Path) -> None:
    """The same for the source that a run was trained on."""
    if wanted:
        reread(wanted, runs.read_run(run).source)


def require_file_name(out: Path | None, *endings: str, otherwise: str = "") -> None:
    """Raise UsageError when an output file has another ending, or cannot be written there.

    endings: the usual one first. otherwise: what --out accepts besides, for the message.
    """
    if out is None:
        return
    if out.suffix.lower() not in endings or out.is_dir():
        what = ", which is a folder" if out.is_dir() else ""
        raise UsageError(
            f"--out {out}{what}: expected a file name ending in {endings[0]}{otherwise}"
        )
    require_folder_free_of_files(out.parent)
