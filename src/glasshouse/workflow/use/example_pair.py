"""One right and one wrong answer of a classifier, explained and held against the object's mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.explanation.draw.canvas import (
    BAR_WIDTH,
    INK,
    TITLE,
    TITLE_HEIGHT,
    Canvas,
    Point,
    shorten,
)
from glasshouse.explanation.draw.overlay import DEFAULT, RGB, Palette, as_rgb, colour_maps
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.explanation.pipeline import MapRequest, explain_image
from glasshouse.explanation.trust.localisation import energy_inside
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, probabilities
from glasshouse.wording import percentage

_SIDE, _MARGIN = 256, 10
_COLUMN, _ROW = _SIDE + 24, TITLE_HEIGHT + _SIDE + 14


@dataclass(frozen=True)
class Example:
    """One image with its answer and the map that explains the predicted class.

    image: uint8 ``(3, h, w)``. mask: bool ``(h, w)``. on_object: the share of the map's positive
    values on the object; area: the share of the image that the object covers.
    """

    id: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    true: str
    predicted: str
    probability: float
    explanation: Explanation
    on_object: float
    area: float

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


def most_confident(predictions: Predictions) -> tuple[int | None, int | None]:
    """The rows of the most confident right and the most confident wrong answer, where there are."""
    shares = probabilities(predictions)
    confidence, is_right = shares.max(axis=1), shares.argmax(axis=1) == predictions.labels
    right, wrong = (
        int(np.where(chosen, confidence, -1).argmax()) if chosen.any() else None
        for chosen in (is_right, ~is_right)
    )
    return right, wrong


def explain_example(
    classifier: Classifier, images: ImageSet, predictions: Predictions, row: int, method: MethodName
) -> Example:
    """Explain the predicted class of one image.

    images: those of the predictions, in the same order, with masks. Raises DataError without masks.
    """
    if images.masks is None:
        raise DataError("expected images with a mask of the object in each, received none")
    page = explain_image(classifier, images.pixels[row], MapRequest(methods=(method,)))
    share, mask = probabilities(predictions)[row], images.masks[row]
    return Example(
        id=str(images.ids[row]),
        image=images.pixels[row],
        mask=mask,
        true=images.class_names[images.labels[row]],
        predicted=images.class_names[int(share.argmax())],
        probability=float(share.max()),
        explanation=page.explanations[0],
        on_object=float(energy_inside(shown(page.explanations[0]), mask[None])[0]),
        area=float(mask.mean()),
    )


def draw_examples(examples: Sequence[Example], *, palette: Palette = DEFAULT) -> Image:
    """A row per example: the image, the object's mask, and the map of the predicted class.

    The outline of the object is drawn on the map as well.
    """
    canvas = Canvas(2 * _MARGIN + 3 * _COLUMN + BAR_WIDTH, _MARGIN + len(examples) * _ROW)
    for row, each in enumerate(examples):
        (drawn,) = colour_maps(each.explanation, palette, 1)
        verdict = "Right" if each.is_right else "Wrong"
        titles = (
            f"{verdict}: {each.predicted} ({percentage(each.probability)})",
            f"The object: {each.true}, {percentage(each.area, 0)} of the image",
            f"Why {each.predicted}: {percentage(each.on_object, 0)} on the object",
        )
        top = _MARGIN + row * _ROW
        lefts = [_MARGIN + column * _COLUMN for column in range(3)]
        contents = (as_rgb(each.image), _mask_pixels(each.mask), drawn.pixels)
        for left, title, pixels in zip(lefts, titles, contents, strict=True):
            canvas.write((left, top + 2), shorten(title, _SIDE, TITLE), TITLE)
            canvas.paste((left, top + TITLE_HEIGHT), pixels, _SIDE)
        _outline(canvas, (lefts[2], top + TITLE_HEIGHT), each.mask)
        inset = _SIDE // 7
        place = lefts[2] + _SIDE + 7, top + TITLE_HEIGHT + inset
        canvas.colour_bar(place, drawn.scale, _SIDE - 2 * inset)
    return canvas.image


def _mask_pixels(mask: NDArray[np.bool_]) -> RGB:
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)


def _outline(canvas: Canvas, corner: Point, mask: NDArray[np.bool_]) -> None:
    """Lines along the pixel edges at which the mask begins or ends."""
    (left, top), scale = corner, _SIDE / max(mask.shape)
    for row, column in np.argwhere(mask[:, 1:] != mask[:, :-1]):
        x, y = left + (column + 1) * scale, top + row * scale
        canvas.line((x, y), (x, y + scale), INK)
    for row, column in np.argwhere(mask[1:] != mask[:-1]):
        x, y = left + column * scale, top + (row + 1) * scale
        canvas.line((x, y), (x + scale, y), INK)
