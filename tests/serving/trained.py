"""A small run that has really been trained, for pages that need a model."""

import functools
import shutil
import tempfile
from pathlib import Path

from glasshouse.recipe import load_recipe
from glasshouse.workflow.experiment import Request, finish, fit, open_experiment

OVERRIDES = ("train.epochs=2", "data.train_limit=200", "train.precision=fp32", "train.device=cpu")


def trained_run(folder: Path) -> Path:
    """Put a finished run of two epochs on digits into this folder."""
    shutil.copytree(_trained_once(), folder)
    return folder


@functools.cache
def _trained_once() -> Path:
    out = Path(tempfile.mkdtemp(prefix="glasshouse-test-")) / "run"
    request = Request("digits", load_recipe("tutorial-basic", OVERRIDES), out, offline=True)
    experiment = open_experiment(request)
    for _ in fit(experiment):
        pass
    finish(experiment)
    return out
