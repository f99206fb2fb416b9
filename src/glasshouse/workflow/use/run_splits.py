"""The images that a run was trained on, read from its source again."""

from dataclasses import replace
from pathlib import Path

from glasshouse.data.images import Splits
from glasshouse.data.sources import fingerprint, load_splits
from glasshouse.errors import DataError
from glasshouse.runs.folder import Run
from glasshouse.workflow.train.pretrained_setup import data_settings


def splits_of_run(run: Run, *, data_dir: Path | None, offline: bool) -> Splits:
    """The splits of a run's source, as its recipe wants them, with its notes."""
    recipe = run.recipe
    is_own = recipe.model.pretrained is None
    settings = recipe.data if is_own else data_settings(run.source, recipe)
    return replace(
        load_splits(run.source, settings, data_dir=data_dir or run.data_dir, offline=offline),
        notes=tuple(run.environment["data"]["notes"]),
    )


def require_images_of_run(splits: Splits, run: Run) -> None:
    """Raise DataError where a source has changed since a run was trained on it.

    Images that were trained on could otherwise be in the validation split by now.
    """
    if fingerprint(splits) != run.environment["data"]["fingerprint"]:
        raise DataError(
            f"{run.source} no longer has the images that {run.folder} was trained on: train again, "
            "or restore them"
        )
