"""A run that is resumed with more epochs than it was started with."""

import shlex
import shutil
from pathlib import Path

from glasshouse.errors import UsageError
from glasshouse.recipe import to_toml
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe
from glasshouse.storage import write_text
from glasshouse.training.schedules import depends_on_epochs
from glasshouse.workflow.train.request import TrainRequest

# What finishing a run leaves, and what is found out about a finished one. The metrics go first:
# from then on, the run counts as unfinished.
_RESULTS = (
    runs.EVALUATION,
    runs.REPORT,
    runs.MISTAKES,
    runs.SHORTCUTS,
    runs.SHORTCUTS_PAGE,
    runs.GROUPS,
    runs.GROUPS_PAGE,
    runs.MAP,
    runs.MAP_POINTS,
    runs.MAP_PAGE,
    runs.MODEL,
    runs.WEIGHTS,
    runs.PREDICTIONS,
    runs.VALIDATION_PREDICTIONS,
    runs.COST,
)


def require_same_recipe(before: runs.Run, request: TrainRequest) -> None:
    """Raise UsageError unless a run can be resumed with this recipe and end as if begun with it.

    That is so with the recipe of the run, and with more epochs where nothing before the last one
    depends on how many there are.
    """
    old = before.recipe
    # What it is called changes nothing of the training.
    called = {"name": old.name, "description": old.description}
    new = request.recipe.model_copy(update=called)
    if old == new:
        return
    difference = f"{request.out} was started with another recipe: {_difference(old, new)}"
    if old != _with_epochs(new, old.train.epochs):
        raise UsageError(
            f"{difference}. Leave out the options that change it, or name another folder with "
            "--out."
        )
    obstacle = _obstacle(old, new)
    if obstacle:
        raise UsageError(
            f"{difference}. {obstacle} Train another run instead: {_command(before, new)}"
        )


def add_epochs(folder: Path, recipe: Recipe) -> None:
    """Make a run one of this recipe, which has more epochs: it is unfinished from now on.

    A kill in between leaves either an unfinished run with the epochs of before, or one with more.
    """
    for name in _RESULTS:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / runs.PLOTS, ignore_errors=True)
    write_text(folder / runs.RECIPE, to_toml(recipe))


def _obstacle(old: Recipe, new: Recipe) -> str:
    """Why a run cannot be trained for longer; empty where it can."""
    if new.train.epochs < old.train.epochs:
        return "A run cannot be resumed with fewer epochs than it was started with."
    if old.transfer.way == "features":
        return "Its heads are fitted in one step, without epochs."
    if old.transfer.way == "gradual":
        return (
            "It unfreezes its layers at shares of all epochs, so that more of them would have "
            "changed it from the first."
        )
    if depends_on_epochs(old.train.schedule):
        return (
            f"The learning rates of its {old.train.schedule.type} schedule depend on the number of "
            "epochs, so that more of them would have changed it from the first."
        )
    return ""


def _command(before: runs.Run, recipe: Recipe) -> str:
    """The command that trains a new run with this number of epochs, from any folder."""
    folder, epochs = before.folder.resolve(), recipe.train.epochs
    out = runs.next_run_folder(folder.parent, f"{folder.name}-{epochs}-epochs")
    words = ["glasshouse", "train", before.source, "--recipe", str(folder / runs.RECIPE)]
    code = recipe.model.code
    words += [] if code is None else ["--net", code]
    words += ["--epochs", str(epochs), "--out", str(out)]
    return shlex.join([*words, *before.data_options, *runs.option_words(before.options)])


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})


def _difference(before: Recipe, now: Recipe) -> str:
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    changed = [
        f"{section}.{key} was {old[section].get(key)!r} and is now {value!r}"
        for section in ("data", "augment", "model", "train", "transfer")
        for key, value in new[section].items()
        if old[section].get(key) != value
    ]
    return "; ".join(changed)
