"""Early stopping keeps the best epoch, and says when it stopped and what it kept."""

import pytest

from glasshouse.recipe import load_recipe, parse_recipe
from glasshouse.settings import TrainSettings
from glasshouse.training.fit import describe_early_end


def test_early_stopping_keeps_the_best_epoch_unless_another_is_asked_for() -> None:
    assert TrainSettings().keep == "last"
    assert TrainSettings(early_stopping=3).keep == "best"
    assert TrainSettings(early_stopping=3, keep="last").keep == "last"
    assert load_recipe("small-cnn", ["train.early_stopping=3"]).train.keep == "best"
    whole = load_recipe("small-cnn", ["train.early_stopping=3", "train.keep=last"])
    assert whole.train.keep == "last"
    assert parse_recipe(whole.model_dump(mode="json")) == whole


LOSSES = [1.0, 0.5, 0.7, 0.6, 0.5]


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 5)])
def test_an_early_end_names_its_epoch_and_the_epoch_whose_weights_were_kept(
    keep: str, kept: int
) -> None:
    settings = TrainSettings.model_validate({"epochs": 9, "early_stopping": 3, "keep": keep})
    assert describe_early_end(settings, LOSSES) == (
        "Training stopped early, after epoch 5 of 9: the validation loss has not improved since "
        f"epoch 2. The weights of epoch {kept} were kept."
    )


def test_a_training_that_went_on_to_its_last_epoch_says_nothing() -> None:
    assert describe_early_end(TrainSettings(epochs=5, early_stopping=3), LOSSES) is None
    assert describe_early_end(TrainSettings(epochs=9), LOSSES) is None
    assert describe_early_end(TrainSettings(epochs=9, early_stopping=3), []) is None
