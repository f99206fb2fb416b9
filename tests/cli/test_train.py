"""Which recipe is trained where none is named."""

import pytest

from glasshouse.cli.train import _usual_recipe
from glasshouse.recipe import load_recipe


@pytest.mark.parametrize(
    ("backbone", "minutes", "recipe"),
    [
        (None, None, "small-residual"),
        ("resnet18", None, "transfer-features"),
        (None, 5.0, "fast"),
        # Not `fast`, whose learning rate of 2 is for untrained filters that turn.
        ("resnet18", 5.0, "transfer-full"),
    ],
)
def test_the_usual_recipe_suits_the_network_and_the_time(
    backbone: str | None, minutes: float | None, recipe: str
) -> None:
    assert _usual_recipe(backbone, minutes) == recipe
    assert minutes is None or load_recipe(recipe).transfer.way == "tune"
