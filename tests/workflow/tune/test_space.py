import pytest

from glasshouse.errors import RecipeError
from glasshouse.recipe import load_recipe
from glasshouse.settings import Conv
from glasshouse.workflow.tune.space import (
    Categorical,
    Range,
    Value,
    describe_space,
    parse_search,
    recipe_of,
    require_space,
    values_in,
)

LR, BATCH = "train.lr=0.0001..0.1:log", "train.batch_size=32,64"


def test_ranges_and_categories_are_parsed() -> None:
    assert parse_search("train.lr=1e-4..1e-1:log") == Range("train.lr", 1e-4, 0.1, True, False)
    assert parse_search("train.epochs=2..9") == Range("train.epochs", 2, 9, False, True)
    assert parse_search("model.width=1..2") == Range("model.width", 1, 2, False, False)
    assert parse_search(BATCH) == Categorical("train.batch_size", (32, 64))
    assert parse_search("train.optimizer=adam,sgd") == Categorical(
        "train.optimizer", ("adam", "sgd")
    )
    assert parse_search("augment.horizontal_flip=true,false").values == (True, False)  # type: ignore[union-attr]


def test_a_described_space_is_parsed_back() -> None:
    for text in (LR, BATCH, "train.epochs=2..9", "model.width=0.5..2.0"):
        assert describe_space([parse_search(text)]) == [text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr", "expected key=low"),
        ("train.lr=1e-1..1e-4", "low end below the high"),
        ("train.lr=0..1:log", "above 0"),
        ("train.lr=a..b", "two numbers"),
        ("train.lr=1..2:lin", "two numbers"),
        ("train.lr=1", "two values or more"),
    ],
)
def test_an_invalid_search_says_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_search(text)


def test_a_choice_of_values_becomes_a_recipe() -> None:
    values: dict[str, Value] = {
        "train.lr": 0.123456789012345,
        "train.optimizer": "sgd",
        "model.width": 0.5,
    }
    recipe = recipe_of("small-cnn", ["train.epochs=2"], values)
    assert (recipe.train.lr, recipe.train.optimizer) == (0.123456789012345, "sgd")
    assert recipe.train.epochs == 2
    assert recipe.model.layers is not None
    assert [layer.filters for layer in recipe.model.layers if layer.type == "conv"] == [3, 8, 8, 16]


def test_filters_are_those_of_the_first_convolution_and_all_others_follow() -> None:
    for name, filters in {"small-cnn": [12, 32, 32, 64], "fast": [12, 12, *[48] * 4]}.items():
        layers = recipe_of(name, [], {"model.filters": 12}).model.layers
        assert layers is not None
        assert [layer.filters for layer in layers if isinstance(layer, Conv)] == filters
    assert values_in(load_recipe("small-cnn"), [parse_search("model.filters=4..8")]) == {
        "model.filters": 6
    }
    with pytest.raises(RecipeError, match="no convolution whose filters could vary"):
        recipe_of("transfer-head", [], {"model.filters": 12})
    both = [parse_search("model.filters=4..8"), parse_search("model.width=1..2")]
    with pytest.raises(RecipeError, match="both set the width"):
        require_space("small-cnn", [], both)


def test_a_layer_of_a_list_can_vary() -> None:
    layers = (
        "model.layers=[{type='conv',filters=8},{type='flatten'},{type='dense',units='classes'}]"
    )
    key = "model.layers.0.filters"
    model = recipe_of("small-cnn", [layers], {key: 16}).model
    assert model.layers is not None and model.layers[0] == Conv(filters=16)
    own = load_recipe("small-cnn", [layers])
    assert values_in(own, [parse_search(f"{key}=8,16")]) == {key: 8}
    with pytest.raises(RecipeError, match="expected a number from 0 to 2, not '3'"):
        recipe_of("small-cnn", [layers], {"model.layers.3.filters": 16})
    with pytest.raises(RecipeError, match="the recipe has no list layers to change an item of"):
        recipe_of("small-cnn", [], {key: 16})


def test_the_recipes_own_values_are_found_within_the_space() -> None:
    recipe = load_recipe("small-cnn")
    assert values_in(recipe, [parse_search(LR), parse_search(BATCH)]) == {
        "train.lr": 1e-3,
        "train.batch_size": 32,
    }
    assert values_in(recipe, [parse_search("train.batch_size=64,128")]) is None
    assert values_in(recipe, [parse_search("train.lr=0.01..0.1")]) is None


def test_a_space_is_checked_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'train\.lr'"):
        require_space("small-cnn", [], [parse_search("train.lrr=1e-4..1e-1")])
    with pytest.raises(RecipeError, match="unknown value 'adamm'"):
        require_space("small-cnn", [], [parse_search("train.optimizer=adam,adamm")])
    with pytest.raises(RecipeError, match="more than once"):
        require_space("small-cnn", [], [parse_search(LR), parse_search(LR)])
    with pytest.raises(RecipeError, match="needs a --search"):
        require_space("small-cnn", [], [])
