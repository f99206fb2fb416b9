"""One right and one wrong answer of a classifier, explained and held against the object's mask."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet
from glasshouse.errors import DataError
from glasshouse.explanation.draw.canvas import (
    CELL,
    ROW,
    ColourMap,
    add_cell,
    draw_image,
    draw_map,
    plain_figure,
    set_title,
)
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import MethodName
from glasshouse.explanation.nouns import Explanation
from glasshouse.explanation.pipeline import MapRequest, explain_image
from glasshouse.explanation.trust.localisation import energy_inside
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions, probabilities


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


def draw_examples(examples: list[Example], *, colours: ColourMap = "inferno") -> Figure:
    """A row per example: the image, the object's mask, and the map of the predicted class."""
    figure = plain_figure(3 * CELL + 0.1, len(examples) * ROW + 0.1)
    for row, each in enumerate(examples):
        top = (len(examples) - row) * ROW + 0.05
        axes, _ = add_cell(figure, 0.1, top)
        draw_image(axes, each.image)
        verdict = "Right" if each.is_right else "Wrong"
        set_title(axes, f"{verdict}: {each.predicted} ({each.probability:.1%})")
        axes, _ = add_cell(figure, 0.1 + CELL, top)
        axes.imshow(each.mask, cmap="gray", interpolation="nearest")
        set_title(axes, f"The object: {each.true}, {each.area:.0%} of the image")
        axes, bar = add_cell(figure, 0.1 + 2 * CELL, top, has_bar=True)
        draw_map(axes, each.explanation, shown(each.explanation)[0], each.image, colours, bar)
        axes.contour(each.mask, levels=[0.5], colors="#222222", linewidths=0.8)
        set_title(axes, f"Why {each.predicted}: {each.on_object:.0%} on the object")
    return figure
