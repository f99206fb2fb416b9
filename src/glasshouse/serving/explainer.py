"""Explanations for the workbench: uploaded photos, test images, and what was explained lately."""

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import Pixels
from glasshouse.data.images import ImageSet
from glasshouse.errors import UsageError
from glasshouse.explanation.nouns import ExplanationPage
from glasshouse.explanation.pipeline import MapRequest, add_slow_maps, explain_image
from glasshouse.explanation.trust.checks import check_page
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.serving.photos import Photo
from glasshouse.serving.run_cache import busy, chosen_classifier, test_images
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice, run_of_choice

_ANSWERS = 24
_SHOWN_SIDE = 448


@dataclass(frozen=True)
class ExplainedPhoto:
    """One photo, explained by one model; key: its part of addresses.

    shown: the photo at the size it is displayed, uint8 ``(h, w, 3)``, with the same field of view
    as the network's input in page.images.
    """

    key: str
    model: ModelChoice
    photo: Photo
    classifier: Classifier
    page: ExplanationPage
    shown: Pixels


@dataclass
class Explainer:
    """The explained photos that a workbench keeps; safe to call from several threads."""

    workbench: Workbench
    _answers: "OrderedDict[str, ExplainedPhoto]" = field(default_factory=OrderedDict)

    def explain(
        self,
        model: ModelChoice,
        photo: Photo,
        class_name: str | None = None,
        layer: str | None = None,
    ) -> ExplainedPhoto:
        """Every fast map of a photo, and activations from first to last layer, from one pass.

        layer: where class activation maps are computed; None: the default one. Raises UsageError
        for an unknown model, or a class or layer that it does not have.
        """
        with busy:
            classifier = self.classifier(model)
            request = MapRequest(
                target_class=class_name,
                layer=layer,
                activations="in depth",
                has_slow=False,
                is_checked=False,
            )
            return self._keep(_explained(model, classifier, photo, request))

    def checked(self, key: str) -> ExplainedPhoto | None:
        """The same photo with its maps checked; None when it is no longer kept."""
        with busy:
            answer = self.answer(key)
            if answer is None:
                return None
            return self._keep(replace(answer, page=check_page(answer.classifier, answer.page)))

    def with_more(self, key: str) -> ExplainedPhoto | None:
        """The same photo with the maps that need many passes, checked as well."""
        with busy:
            answer = self.answer(key)
            if answer is None:
                return None
            return self._keep(replace(answer, page=add_slow_maps(answer.classifier, answer.page)))

    def answer(self, key: str) -> ExplainedPhoto | None:
        """An explained photo by its key, if it is still kept."""
        return self._answers.get(key)

    def classifier(self, model: ModelChoice) -> Classifier:
        """The classifier of a choice, kept as long as others are not used more recently."""
        return chosen_classifier(self.workbench, model)

    def image_model(self, models: Sequence[ModelChoice]) -> ModelChoice:
        """The model whose test images are offered: the first that is a run, else the first."""
        have = (m for m in models if run_of_choice(self.workbench.runs, m) is not None)
        return next(have, models[0])

    def test_images(self, model: ModelChoice) -> ImageSet:
        """The test images of a model that is a run.

        Raises UsageError for a model that is not a run, DataError when its source is missing.
        """
        folder = run_of_choice(self.workbench.runs, model)
        if folder is None:
            raise UsageError(f"{model} has no test images")
        return test_images(self.workbench, folder)

    def _keep(self, answer: ExplainedPhoto) -> ExplainedPhoto:
        self._answers[answer.key] = answer
        self._answers.move_to_end(answer.key)
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        return answer


@cache
def explainer_of(workbench: Workbench) -> Explainer:
    """The one explainer of this workbench."""
    return Explainer(workbench)


def photo_of(images: ImageSet, row: int) -> Photo:
    """An image of a set, which already has the network's size."""
    pixels = np.ascontiguousarray(images.pixels[row].transpose(1, 2, 0))
    label = images.label_text(row)
    return Photo(str(images.ids[row]), pixels, is_ready=True, class_name=label)


def _explained(
    model: ModelChoice, classifier: Classifier, photo: Photo, request: MapRequest
) -> ExplainedPhoto:
    wanted = classifier.preprocessing
    is_there = photo.is_ready and photo.pixels.shape[:2] == (wanted.height, wanted.width)
    image = (
        np.ascontiguousarray(photo.pixels.transpose(2, 0, 1))
        if is_there
        else preprocess(photo.pixels, wanted)
    )
    page = explain_image(classifier, image, request)
    shown = _shown(photo, image, wanted)
    return ExplainedPhoto(secrets.token_hex(8), model, photo, classifier, page, shown)


def _shown(photo: Photo, image: NDArray[np.uint8], wanted: Preprocessing) -> Pixels:
    """The photo at an integer multiple of the network's size, large enough for a page.

    A large file is shown with more detail than the network sees; a small one keeps its pixels.
    """
    times = max(1, _SHOWN_SIDE // max(image.shape[1:]))
    sharp = 1 if photo.is_ready else min(photo.pixels.shape[:2]) // min(image.shape[1:])
    sharp = max(1, min(times, sharp))
    large = replace(wanted, height=wanted.height * sharp, width=wanted.width * sharp)
    drawn = image if sharp == 1 else preprocess(photo.pixels, large)
    whole = drawn.transpose(1, 2, 0).repeat(times // sharp, axis=0).repeat(times // sharp, axis=1)
    return np.ascontiguousarray(whole)
