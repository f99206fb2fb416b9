"""Small trained runs, for pages that need a model."""

import atexit
import functools
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

from glasshouse.recipe import load_recipe
from glasshouse.workflow.train.experiment import (
    TrainRequest,
    finish_experiment,
    fit_experiment,
    open_experiment,
)
from tests.run_files import without_reports

SMALL = ("train.epochs=2", "train.precision=fp32", "train.device=cpu", "data.train_limit=300")
# An override of train_small, for tests that count images.
ALL_IMAGES = "data.train_limit=2000"


def train_small(
    folder: Path, source: str = "digits", *overrides: str, has_report: bool = False
) -> Path:
    """A finished run of a small network; its report, which takes most of the time, is left out."""
    recipe = load_recipe("small-cnn", [*SMALL, *overrides])
    experiment = open_experiment(
        TrainRequest(source, recipe, folder, command="a test", offline=True)
    )
    for _ in fit_experiment(experiment):
        pass
    with nullcontext() if has_report else without_reports():
        finish_experiment(experiment)
    return folder


def trained_run(folder: Path) -> Path:
    """Put a finished run of two epochs on digits into this folder, trained once for all tests."""
    shutil.copytree(_trained_once(), folder)
    return folder


@functools.cache
def _trained_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="glasshouse-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return train_small(folder / "run")
