"""Figures of images: which are shown, with which words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from glasshouse.data.augment import augment
from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.models.predict import Predictions
from glasshouse.report.image_plots import plot_augmentation, plot_images, plot_mistakes
from glasshouse.rng import keys_of
from glasshouse.settings import AugmentSettings
from tests.report.test_plots import texts


def test_examples_show_the_worst_mistakes_first(images: ImageSet, predictions: Predictions) -> None:
    figure = plot_mistakes(images, predictions, count=5)
    worst = evaluate(predictions).mistakes[0]
    place = predictions.ids.tolist().index(worst.id)
    shown = figure.axes[0].images[0].get_array()
    assert np.array_equal(np.asarray(shown), images.pixels[place].transpose(1, 2, 0))
    expected = f"{worst.true}\n→ {worst.predicted} {100 * worst.probability:.0f} %"
    assert figure.axes[0].get_title() == expected
    assert sum(bool(axes.images) for axes in figure.axes) == 5


def test_random_examples_have_a_seed(images: ImageSet, predictions: Predictions) -> None:
    def titles(seed: int) -> str:
        return texts(plot_images(images, predictions, count=9, seed=seed))

    assert titles(1) == titles(1) != titles(2)


def test_without_mistakes_the_grid_says_so(images: ImageSet, predictions: Predictions) -> None:
    right = replace(predictions, targets=predictions.logits.argmax(axis=1))
    assert "no mistakes" in texts(plot_mistakes(images, right))


def test_an_evaluation_shows_the_same_mistakes_as_its_predictions(
    images: ImageSet, predictions: Predictions
) -> None:
    mixed = take(images, np.random.default_rng(0).permutation(len(images)))
    shown = texts(plot_mistakes(images, predictions, count=9))
    assert texts(plot_mistakes(mixed, evaluate(predictions), count=9)) == shown


def test_images_alone_have_their_class_names(images: ImageSet) -> None:
    figure = plot_images(images, count=5, seed=1)
    chosen = np.random.default_rng(1).permutation(len(images))[:5]
    titles = [axes.get_title() for axes in figure.axes][:5]
    assert titles == [images.class_names[images.labels[i]] for i in chosen]


def test_results_of_other_images_are_refused(images: ImageSet, predictions: Predictions) -> None:
    other = replace(predictions, ids=predictions.ids[::-1])
    for draw in (plot_images, plot_mistakes):
        with pytest.raises(UsageError, match="the same images"):
            draw(images, other)
    with pytest.raises(UsageError, match="expected the images that were evaluated"):
        plot_mistakes(take(images, [0]), evaluate(predictions))


def test_augmented_images_are_what_training_sees_next_to_their_original(images: ImageSet) -> None:
    settings = AugmentSettings(rotation_range=30, horizontal_flip=True)
    figure = plot_augmentation(images, settings, count=2, epochs=3, seed=5)
    grids = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(grids) == 8
    assert np.array_equal(grids[4], images.pixels[1].transpose(1, 2, 0))
    keys = keys_of(images.ids[:2])
    seen = augment(torch.from_numpy(images.pixels[:2]), keys, settings, seed=5, epoch=2).numpy()
    expected = np.clip(np.rint(seen[1]), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(grids[7], expected)
    assert len(plot_augmentation(images, AugmentSettings(mixup=0.4)).axes) == 24
    with pytest.raises(DataError, match="received none"):
        plot_augmentation(take(images, []), settings)


def test_a_notebook_shows_a_figure_once_and_without_pyplot(images: ImageSet) -> None:
    formatter: Any = DisplayFormatter()
    shown, _ = formatter.format(plot_images(images, count=2))
    assert shown["image/png"][1:4] == b"PNG"
    assert set(shown) == {"image/png", "text/plain"}
