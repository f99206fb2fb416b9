from pathlib import Path

import pytest

from glasshouse.recipe import load_recipe
from glasshouse.workflow.train.announcement import what_will_be_done
from glasshouse.workflow.train.experiment import TrainRequest, open_experiment

SMALL = ["data.train_limit=96", "train.precision=fp32", "train.device=cpu"]


@pytest.mark.parametrize(
    ("overrides", "said", "not_said"),
    [
        (["train.epochs=1"], "note: 3 updates in all is too few", "resuming"),
        (["train.epochs=40"], "note: half of the images are mirrored", "too few"),
        (["augment.horizontal_flip=false"], "recipe small-cnn, ", "mirrored"),
    ],
)
def test_what_will_be_done_is_said_with_what_deserves_notice(
    tmp_path: Path, overrides: list[str], said: str, not_said: str
) -> None:
    recipe = load_recipe("small-cnn", [*SMALL, *overrides])
    experiment = open_experiment(TrainRequest("digits", recipe, tmp_path / "run"))
    text = "\n".join(what_will_be_done(experiment))
    assert said in text
    assert not_said not in text
