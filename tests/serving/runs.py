"""Run folders for the pages, made once by the real command's own functions."""

from pathlib import Path

from glasshouse.recipe import load_recipe
from glasshouse.workflow.experiment import Request, finish, fit, open_experiment

SMALL = ("train.epochs=2", "train.precision=fp32", "data.train_limit=300")


def train_small(folder: Path, source: str = "digits", *overrides: str) -> Path:
    """A finished run of a small net."""
    recipe = load_recipe("tutorial-basic", [*SMALL, *overrides])
    experiment = open_experiment(Request(source, recipe, folder, command="a test"))
    for _ in fit(experiment):
        pass
    finish(experiment)
    return folder
