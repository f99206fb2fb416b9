"""Small trained runs, for pages that need a model."""

import functools
import shutil
import tempfile
from pathlib import Path

from glasshouse.recipe import load_recipe
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)

SMALL = ("train.epochs=2", "train.precision=fp32", "train.device=cpu", "data.train_limit=300")
# An override of train_small, for tests that count images.
ALL_IMAGES = "data.train_limit=2000"


def train_small(folder: Path, source: str = "digits", *overrides: str) -> Path:
    """A finished run of a small network."""
    recipe = load_recipe("small-cnn", [*SMALL, *overrides])
    experiment = open_experiment(
        TrainRequest(source, recipe, folder, command="a test", offline=True)
    )
    for _ in fit_experiment(experiment):
        pass
    finish_experiment(experiment)
    return folder


def trained_run(folder: Path) -> Path:
    """Put a finished run of two epochs on digits into this folder, trained once for all tests."""
    shutil.copytree(_trained_once(), folder)
    return folder


@functools.cache
def _trained_once() -> Path:
    return train_small(Path(tempfile.mkdtemp(prefix="glasshouse-test-")) / "run")
