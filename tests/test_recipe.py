import errno
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from glasshouse.errors import RecipeError, StorageError
from glasshouse.recipe import (
    load_recipe,
    load_with_effect,
    overridden_keys,
    parse_recipe,
    recipe_names,
    recipe_text,
    require_effect,
    to_toml,
)
from glasshouse.setting_errors import _SYNONYMS
from glasshouse.settings import AugmentSettings, Cosine, Recipe, Settings, StepDecay, TrainSettings


@pytest.mark.parametrize("name", recipe_names())
def test_every_named_recipe_survives_being_written_and_read(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert parse_recipe(tomllib.loads(to_toml(recipe))) == recipe


def test_overrides_take_toml_values_and_plain_words() -> None:
    recipe = load_recipe(
        "tutorial-basic",
        ["train.epochs=3", "train.optimizer=sgd", "augment.horizontal_flip=false",
         "train.schedule={type='step', every=2}"],
    )  # fmt: skip
    assert recipe.train.epochs == 3
    assert recipe.train.optimizer == "sgd"
    assert recipe.augment.horizontal_flip is False
    assert recipe.train.schedule.type == "step"


def test_augmentation_is_turned_off_as_a_whole_and_single_ones_on_again() -> None:
    assert load_recipe("small-residual").augment != AugmentSettings()
    assert load_recipe("small-residual", ["augment=off"]).augment == AugmentSettings()
    changed = load_recipe("small-residual", ["augment=off", "augment.mixup=0.2"])
    assert changed.augment == AugmentSettings(mixup=0.2)


@pytest.mark.parametrize("key", sorted(_SYNONYMS.values()))
def test_synonyms_name_keys_that_exist(key: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe("tutorial-basic", [f"{key}=[[]]"])
    assert "unknown key" not in str(error.value)


def test_another_type_of_schedule_drops_the_keys_of_the_old_one() -> None:
    assert load_recipe("tutorial-wide-schedule", ["train.schedule.type=cosine"]).train.schedule == (
        Cosine()
    )
    step = "train.schedule={type='step', every=4, factor=0.3}"
    same = [step, "train.schedule.type=step", "train.schedule.every=2"]
    kept = load_recipe("tutorial-wide-schedule", same).train.schedule
    assert kept == StepDecay(every=2, factor=0.3)


def test_layers_replace_the_recipes_preset() -> None:
    recipe = load_recipe(
        "tutorial-basic", ["model.layers=[{type='flatten'}, {type='dense', units='classes'}]"]
    )
    assert recipe.model.preset is None
    assert recipe.model.layers is not None
    assert len(recipe.model.layers) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown key 'train\.epoch'. Did you mean 'train\.epochs'"),
        ("epochs=3", r"unknown key 'epochs'. Did you mean 'train\.epochs'"),
        ("epoch=3", r"unknown key 'epoch'. Did you mean 'train\.epochs'"),
        ("learning_rate=0.1", r"unknown key 'learning_rate'. Did you mean 'train\.lr'"),
        ("train.learning_rate=0.1", r"'train\.learning_rate'. Did you mean 'train\.lr'"),
        ("batch=8", r"Did you mean 'train\.batch_size'"),
        ("data.img_size=64", r"'data\.img_size'. Did you mean 'data\.image_size'"),
        ("model.layers=[{type='conv', size=3}]", r"layers\.0\.size'\. (?!.*image_size)"),
        ("augment=of", "--set augment=of: expected off, which turns all augmentation off"),
        ("data.image_sise=9", r"'data\.image_sise'. Did you mean 'data\.image_size'"),
        ("trian.epochs=3", r"unknown key 'trian'. Did you mean 'train'"),
        ("train.epochs=zero", r"train\.epochs: expected a whole number\. Received: 'zero'"),
        ("train.epochs=0", r"train\.epochs: expected at least 1\. Received: 0"),
        ("train.optimizer=adamm", r"unknown value 'adamm'. Did you mean 'adam'"),
        ("train.schedule.type=stepp", r"train\.schedule: unknown value 'stepp'. .*'step'"),
        ("train.schedule={type='step', evry=2}", r"'train\.schedule\.evry'. Did you mean 'every'"),
        ("model.layers=[{type='konv'}]", r"model\.layers\.0: unknown value 'konv'. .*'conv'"),
        ("model.layers=[{type='conv', filter=2}]", r"layers\.0\.filter'. Did you mean 'filters'"),
        ("model.layers=[{type='dense',units=3,activation='softmx'}]", "Did you mean 'softmax'"),
        ("model.layers=[{type='dense',units=3,activation='swish'}]", "Did you mean 'silu'"),
        ("augment.mixup=-1", r"augment\.mixup: .*Received: -1"),
        ("train.lr=nan", r"train\.lr: expected a finite number or 'auto'\. Received: nan\.$"),
        ("model.layers=[{type='dense'}]", r"layers\.0\.units: it is missing\.$"),
        ("epochs", "expected key=value"),
        ("name.x=1", "'name' is not a section"),
    ],
)
def test_wrong_overrides_are_named_with_the_nearest_key(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("tutorial-basic", [override])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=fast", "train.lr: expected a number or 'auto'. Received: 'fast'."),
        ("train.threads=0", "train.threads: expected at least 1 or 'auto'. Received: 0."),
        ("augment.zoom_range=7", "augment.zoom_range: expected less than 1. Received: 7."),
        ("model.mirror=maybe", "model.mirror: expected true or false. Received: 'maybe'."),
        ("transfer.heads=[]", "transfer.heads: expected at least 1 values. Received: []."),
        ("model.layers=3", "model.layers: expected a list. Received: 3."),
        ("model.layers=[{units=3}]", "model.layers.0: expected the key 'type'."),
        ("model.preset=3", "model.preset: expected a text. Received: 3."),
        ("train=on", "train: expected keys with values. Received: 'on'."),
    ],
)
def test_a_wrong_value_gets_one_line_in_our_own_words(override: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tutorial-basic", [override])
    assert str(caught.value).splitlines() == ["the recipe is not valid:", f"  {expected}"]


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'tutorial-basic'"):
        load_recipe("tutorial-basik")


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe file .*none\.toml does not exist"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("a = [1,")
    with pytest.raises(RecipeError, match=r"broken\.toml is not valid TOML"):
        load_recipe(tmp_path / "broken.toml")


def test_preset_and_layers_exclude_each_other() -> None:
    message = "expected exactly one of preset, layers, pretrained and code"
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"model": {"preset": "tutorial-basic", "layers": [{"type": "flatten"}]}})


def test_views_go_with_the_network_that_a_pretrained_one_replaces() -> None:
    name = "model.pretrained.name=resnet18"
    chosen = [name, "model.mirror=true", "model.pretrained.dropout=0.1"]
    views = {
        (): (True, True),
        (name,): (False, False),
        tuple(chosen): (True, False),
    }
    for overrides, expected in views.items():
        model = load_recipe("fast", list(overrides)).model
        assert (model.mirror, model.shifts) == expected


@pytest.mark.parametrize("view", ["mirror", "shifts"])
def test_views_of_cached_features_are_refused(view: str) -> None:
    with pytest.raises(RecipeError, match=r"need transfer\.way 'tune' or 'gradual'"):
        load_recipe("transfer-features", [f"model.{view}=true"])


def test_a_recipe_on_a_disk_that_fails_is_not_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(recipe_text("small-cnn"))

    def fails(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(StorageError, match=r"mine\.toml: Input/output error") as failed:
        load_recipe(str(path))
    assert failed.value.exit_code == 3


def test_a_recipe_in_another_encoding_is_told_to_be_saved_as_utf_8(tmp_path: Path) -> None:
    for number, encoding in enumerate(("utf-16", "latin-1")):
        path = tmp_path / f"{number}.toml"
        path.write_text('name = "café"', encoding=encoding)
        with pytest.raises(RecipeError, match=rf"{number}\.toml is not in UTF-8 .* save it as"):
            load_recipe(str(path))


def _number_fields() -> list[tuple[str, str]]:
    """Every key of a section, layer or schedule that takes numbers and neither true nor false."""
    schema = Recipe.model_json_schema()
    kinds = {name: kind["properties"] for name, kind in schema["$defs"].items()}
    return [
        (name, key)
        for name, properties in kinds.items()
        for key, asked in properties.items()
        if re.search("'(number|integer)'", str(asked)) and "boolean" not in str(asked)
    ]


@pytest.mark.parametrize("value", [True, np.False_, [True, True, True]])
def test_a_boolean_is_a_number_nowhere(value: object) -> None:
    fields = _number_fields()
    assert ("TrainSettings", "lr") in fields and ("Conv", "kernel_size") in fields
    kinds = {kind.__name__: kind for kind in Settings.__subclasses__()}
    for name, key in fields:
        with pytest.raises(RecipeError, match=rf"\b{key}(\.0)?: expected"):
            kinds[name](**{key: value})
    assert TrainSettings(lr=1, epochs=2).lr == 1


@pytest.mark.parametrize(
    ("recipe", "override", "problem"),
    [
        ("transfer-features", "train.epochs=3", "train.epochs has no effect on heads, which"),
        ("transfer-features", "train.schedule.type=cosine", "train.schedule.type has no effect"),
        ("transfer-features", "augment.rotation_range=15", "augment.rotation_range has no effect"),
        ("transfer-features", "transfer.trainable=head", "'features': expected 'tune'"),
        ("transfer-gradual", "transfer.heads=['mlp']", "transfer.way is 'gradual': expected 'feat"),
        ("transfer-full", "transfer.rate_factor=0.5", "transfer.way is 'tune': expected 'gradual'"),
        ("small-cnn", "train.momentum=0.8", "train.optimizer is 'adam': expected 'muon' or 'sgd'"),
        ("small-cnn", "train.filter_lr_factor=0.2", "is 'adam': expected 'muon'"),
    ],
)
def test_an_override_that_changes_nothing_is_refused(
    recipe: str, override: str, problem: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(problem)):
        load_with_effect(recipe, [override])


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("transfer-features", "train.seed=3"),
        ("transfer-features", "train.class_weights=balanced"),
        ("transfer-features", "augment=off"),
        ("transfer-features", "transfer.heads=['mlp']"),
        ("transfer-full", "train.epochs=3"),
        ("transfer-gradual", "transfer.batch_statistics=false"),
        ("fast", "train.filter_lr_factor=0.2"),
        ("small-cnn", "augment.rotation_range=15"),
    ],
)
def test_an_override_that_changes_something_is_taken(recipe: str, override: str) -> None:
    assert load_with_effect(recipe, [override]) == load_recipe(recipe, [override])


def test_a_key_that_has_an_effect_in_one_of_several_recipes_is_taken() -> None:
    ways = [load_recipe("transfer-full", [f"transfer.way={way}"]) for way in ("tune", "features")]
    require_effect(ways, ["train.lr"])
    with pytest.raises(RecipeError, match=r"train\.lr has no effect"):
        require_effect(ways[1:], ["train.lr"])
    require_effect([], ["train.lr"])


def test_what_waits_in_a_recipe_for_another_choice_is_no_mistake() -> None:
    # Its settings are those of an epoch, which the features do without.
    changed = load_with_effect("transfer-full", ["transfer.way=features", "train.seed=1"])
    assert changed.train.epochs == 10 and changed.transfer.way == "features"
    assert overridden_keys(["train.seed = 1", "augment=off"]) == ["train.seed", "augment"]
