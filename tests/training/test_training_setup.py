"""A training is set up with splits that belong together and have the size of its network."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError
from glasshouse.models.classifier import Preprocessing
from glasshouse.settings import AugmentSettings
from glasshouse.training.training_setup import TrainingSetup
from tests.data.test_alike_splits import CHANGES
from tests.training.test_loop import settings, setup


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_splits_that_do_not_belong_together_are_refused(
    tiny_splits: Splits, change: Callable[[ImageSet], ImageSet], words: str
) -> None:
    other = replace(tiny_splits, validation=change(tiny_splits.validation))
    with pytest.raises(DataError, match=words.format("validation")):
        setup(other, settings())
    with pytest.raises(DataError, match=words.format("validation")):
        replace(setup(tiny_splits, settings()), validation=other.validation)
    # A test of learning rates has no use for validation images.
    setup(replace(tiny_splits, validation=take(other.validation, [])), settings())


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (8, 8)])
def test_images_of_another_size_than_the_network_are_refused(
    tiny_splits: Splits, size: tuple[int, int]
) -> None:
    # A network that pools globally would train with them, and no classifier would take them.
    words = f"the images are 16x16, but the classifier takes {size[0]}x{size[1]}"
    parts = (Preprocessing(*size), settings(), AugmentSettings())
    with pytest.raises(DataError, match=words):
        TrainingSetup(tiny_splits.train, tiny_splits.validation, *parts)
    with pytest.raises(DataError, match=words):
        TrainingSetup(take(tiny_splits.train, []), tiny_splits.validation, *parts)
