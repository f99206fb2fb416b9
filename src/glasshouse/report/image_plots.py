"""Figures of images: a sample of a split, augmented versions, and mistakes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.data.augment import augment as augmented, mix
from glasshouse.data.images import ImageSet, take
from glasshouse.errors import DataError, UsageError, require_type
from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.evaluation.metrics import mistake_positions
from glasshouse.explanation.draw.fonts import families
from glasshouse.models.predict import Predictions
from glasshouse.report.encoding import rows_first
from glasshouse.report.theme import Theme, new_figure, shorten_name, theme_of
from glasshouse.rng import keys_of
from glasshouse.settings import AugmentSettings
from glasshouse.wording import percentage

_COLUMNS = 6


@dataclass(frozen=True)
class _Answer:
    """A prediction for the image at a position in its set."""

    position: int
    predicted: str
    probability: float


def plot_images(
    images: ImageSet,
    predictions: Predictions | None = None,
    *,
    count: int = 24,
    seed: int = 0,
    dark: bool = False,
) -> Figure:
    """A random sample of images with their class names; mistakes in orange.

    predictions: also show the predicted classes and their probabilities. Raises UsageError unless
    they are of the same images in the same order.
    """
    require_type(images, ImageSet, "an ImageSet, such as splits.test")
    theme = theme_of(dark)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    if predictions is not None:
        return _answers(images, _answers_at(images, predictions, chosen), theme)
    figure, tiles = _grid(len(chosen), _COLUMNS, theme)
    for tile, i in zip(tiles, chosen.tolist(), strict=False):
        _show(tile, images.pixels[i])
        name = shorten_name(images.label_text(i), 16)
        tile.set_title(
            name, fontsize=8, parse_math=False, color=theme.ink, fontfamily=families([name])
        )
    return figure


def plot_mistakes(
    images: ImageSet,
    results: Predictions | Evaluation,
    *,
    count: int = 24,
    dark: bool = False,
) -> Figure:
    """The most confident mistakes: image, true class, predicted class and its probability.

    results: predictions of the images, or their evaluation. Raises UsageError unless they are of
    the same images.
    """
    require_type(images, ImageSet, "an ImageSet, such as splits.test")
    if isinstance(results, Predictions):
        answers = _answers_at(images, results, mistake_positions(results)[:count])
    else:
        require_type(results, Evaluation, "predictions of the images or their evaluation")
        positions = {name: position for position, name in enumerate(images.ids.tolist())}
        shown = results.mistakes[:count]
        if any(each.id not in positions for each in shown):
            raise UsageError("plot_mistakes: expected the images that were evaluated, got others")
        answers = [_Answer(positions[m.id], m.predicted, m.probability) for m in shown]
    theme = theme_of(dark)
    figure = _answers(images, answers, theme)
    if not answers:
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", color=theme.quiet)
    return figure


def plot_augmentation(
    images: ImageSet,
    settings: AugmentSettings,
    *,
    count: int = 4,
    epochs: int = 5,
    seed: int = 0,
    dark: bool = False,
) -> Figure:
    """The first images on the left, next to what the network would see of them in each epoch.

    seed: that of the training settings. Mixed images are blended with those shown here. Raises
    DataError without images.
    """
    require_type(images, ImageSet, "an ImageSet, such as splits.test")
    require_type(settings, AugmentSettings, "augmentation such as recipe.augment")
    few = take(images, range(min(count, len(images))))
    if not len(few):
        raise DataError("plot_augmentation: expected one image or more, received none")
    keys, originals = keys_of(few.ids), torch.from_numpy(few.pixels)
    labels = torch.from_numpy(few.targets)
    versions = []
    for epoch in range(epochs):
        changed = augmented(originals, keys, settings, seed=seed, epoch=epoch)
        mixed, _, _ = mix(changed.float(), labels, keys, settings, seed=seed, epoch=epoch)
        versions.append(mixed.numpy())
    theme = theme_of(dark)
    figure, tiles = _grid(len(few) * (epochs + 1), epochs + 1, theme)
    for row, original in enumerate(few.pixels):
        for column, image in enumerate([original, *(version[row] for version in versions)]):
            _show(tiles[row * (epochs + 1) + column], image)
    for tile, name in zip(tiles, ("original", "as trained on"), strict=False):
        tile.set_title(name, fontsize=9, color=theme.quiet)
    return figure


def _answers_at(
    images: ImageSet, predictions: Predictions, positions: NDArray[np.int64]
) -> list[_Answer]:
    if not np.array_equal(images.ids, predictions.ids):
        raise UsageError("expected images and predictions of the same images in the same order")
    shares, names = predictions.probabilities, predictions.names
    return [_Answer(i, names[i], float(shares[i].max())) for i in positions.tolist()]


def _answers(images: ImageSet, answers: list[_Answer], theme: Theme) -> Figure:
    figure, tiles = _grid(len(answers), _COLUMNS, theme)
    for tile, answer in zip(tiles, answers, strict=False):
        _show(tile, images.pixels[answer.position])
        true = images.label_text(answer.position)
        text = shorten_name(true, 16)
        if answer.predicted != true:
            text += f"\n→ {shorten_name(answer.predicted, 14)}"
        tile.set_title(
            f"{text} {percentage(answer.probability, 0)}",
            fontsize=8, parse_math=False, linespacing=1.1,
            fontfamily=families([text]),
            color=theme.ink if answer.predicted == true else theme.orange,
        )  # fmt: skip
    return figure


def _grid(count: int, columns: int, theme: Theme) -> tuple[Figure, list[Axes]]:
    rows = max(1, math.ceil(count / columns))
    figure = new_figure(1.45 * columns, 1.75 * rows, theme)
    tiles = list(figure.subplots(rows, columns, squeeze=False).flat)
    for tile in tiles:
        tile.set_axis_off()
    return figure, tiles


def _show(axes: Axes, image: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    axes.imshow(rows_first(image), interpolation="nearest" if image.shape[-1] < 100 else None)
