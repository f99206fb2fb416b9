"""Recipes by name, and options that stand for their keys."""

import json
import tomllib
from pathlib import Path

import pytest

from glasshouse.cli.options import with_shorthands
from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe, recipe_names
from tests.journeys.command import glasshouse_here

Capture = pytest.CaptureFixture[str]


def test_all_recipes_are_listed_with_their_descriptions(capsys: Capture) -> None:
    code, output, errors = glasshouse_here(["recipes"], capsys)
    assert code == 0, errors
    rows = [line.split(maxsplit=1) for line in output.splitlines()]
    assert rows == [[name, load_recipe(name).description] for name in recipe_names()]
    listed = json.loads(glasshouse_here(["recipes", "--json"], capsys)[1])
    assert [each["name"] for each in listed] == recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_a_printed_recipe_can_be_used_as_a_file(name: str, tmp_path: Path, capsys: Capture) -> None:
    code, output, errors = glasshouse_here(["recipes", name], capsys)
    assert code == 0, errors
    (tmp_path / "own.toml").write_text(output, encoding="utf-8")
    assert load_recipe(tmp_path / "own.toml") == load_recipe(name)
    assert tomllib.loads(output)["name"] == name


def test_an_unknown_recipe_is_answered_with_the_nearest(capsys: Capture) -> None:
    code, _, errors = glasshouse_here(["recipes", "fats"], capsys)
    assert code == 2 and "Did you mean 'fast'" in errors


def test_short_options_stand_for_keys() -> None:
    found = with_shorthands(["augment=off"], epochs=2, batch_size=8, lr="auto", image_size=32)
    recipe = load_recipe("tutorial-basic", found)
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.lr) == (2, 8, "auto")
    assert recipe.data.image_size == 32


def test_the_same_value_may_be_given_twice_but_not_two_values() -> None:
    assert with_shorthands(["train.lr=0.001"], lr="1e-3")
    with pytest.raises(
        UsageError, match=r"--epochs 2 and --set train\.epochs=3 give train\.epochs"
    ):
        with_shorthands(["train.epochs=3"], epochs=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--epochs", "2", "--set", "train.epochs=3"], "different values"),
        (["train", "digits", "--lr", "quick"], "train.lr"),
        (["train", "digits", "--epochs", "0"], "train.epochs"),
        (["lr-find", "digits", "--image-size", "2"], "data.image_size"),
        (["tune", "digits", "--search", "train.lr=1e-3,1e-2", "--epochs", "0"], "train.epochs"),
        (["ladder", "digits", "--batch-size", "0"], "train.batch_size"),
    ],
)
def test_short_options_are_checked_like_the_keys(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    code, output, errors = glasshouse_here(arguments, capsys)
    assert code == 2 and message in errors
    assert output == ""
