"""What a run says about a photo or a frame of a webcam; it needs torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import decode
from glasshouse.explanation.methods import METHODS
from glasshouse.models.predict import classify, to_probabilities
from glasshouse.models.preprocessing import preprocess
from glasshouse.serving.explainer import ExplainedPhoto, explainer_of
from glasshouse.serving.photos import Photo
from glasshouse.serving.run_cache import busy, chosen_classifier
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice

# A frame is decoded in this process, several times a second: no larger than a webcam's image.
_FRAME_PIXELS = 1 << 21
_MAP = "grad-cam"

Shares = dict[str, float]


@dataclass(frozen=True)
class PhotoResult:
    """Probabilities by class.

    answer: the photo as it is explained; key and place: of its map, as the page Explain has it.
    """

    shares: Shares
    answer: ExplainedPhoto
    key: str
    place: int
    method: str


def shares_of_frame(workbench: Workbench, run: str, data: bytes) -> Shares:
    """The probability of each class for one frame; raises BadImage and UsageError."""
    pixels = decode(data, name="the webcam image", max_pixels=_FRAME_PIXELS)
    with busy:
        classifier = chosen_classifier(workbench, ModelChoice(run))
        image = preprocess(pixels, classifier.preprocessing)
        return _shares(classifier.class_names, classify(classifier, image[None])[0])


def photo_result(workbench: Workbench, run: str, photo: Photo) -> PhotoResult:
    """The probabilities and a map of the predicted class; raises UsageError."""
    answer = explainer_of(workbench).explain(ModelChoice(run), photo)
    page = answer.page
    shares = to_probabilities(page.logits[0], page.temperature, page.thresholds)
    methods = [each.method for each in page.explanations]
    place = methods.index(_MAP) if _MAP in methods else 0
    title = METHODS[methods[place]].title
    return PhotoResult(_shares(page.class_names, shares), answer, answer.key, place, title)


def _shares(names: tuple[str, ...], values: NDArray[np.float64]) -> Shares:
    return dict(zip(names, values.tolist(), strict=True))
