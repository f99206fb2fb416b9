"""Explanations for a page: warm models, images that people bring, and the answers of a while."""

import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import Pixels, decode
from glasshouse.data.images import ImageSet
from glasshouse.data.workers import Fitting, decode_files
from glasshouse.errors import BadImage, UsageError
from glasshouse.explanation.nouns import ExplanationPage
from glasshouse.explanation.pipeline import MapRequest, add_slow_maps, explain_image
from glasshouse.explanation.trust.checks import check_page
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import test_images
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice, classifier_of_choice, run_of_choice

Key = TypeVar("Key")
Value = TypeVar("Value")

_WARM_MODELS, _ANSWERS = 4, 24
_SHOWN_SIDE = 448


@dataclass(frozen=True)
class Photo:
    """A decoded image ``(h, w, 3)``; is_ready: it has been brought to a net's size already."""

    name: str
    pixels: Pixels
    is_ready: bool = False
    class_name: str = ""


@dataclass(frozen=True)
class ExplainedPhoto:
    """What one model makes of one photo; key: its place in addresses.

    shown: the photo as large as it is looked at, uint8 ``(h, w, 3)``, with the same field of view
    as the net's own input in page.images.
    """

    key: str
    model: ModelChoice
    photo: Photo
    classifier: Classifier
    page: ExplanationPage
    shown: Pixels


@dataclass
class Explainer:
    """What a workbench keeps warm; safe to ask from several threads."""

    workbench: Workbench
    _models: "OrderedDict[tuple[ModelChoice, int], Classifier]" = field(default_factory=OrderedDict)
    _answers: "OrderedDict[str, ExplainedPhoto]" = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def explain(
        self, model: ModelChoice, photo: Photo, class_name: str | None = None
    ) -> ExplainedPhoto:
        """Every map of a photo and the activations along the net, from one pass.

        Raises UsageError for an unknown model, or a class that it does not know.
        """
        # One at a time: hooks and modes belong to the net, and the processor is shared anyway.
        with self._lock:
            classifier = self.classifier(model)
            answer = _answered(model, classifier, photo, class_name)
            return self._keep(answer)

    def checked(self, key: str) -> ExplainedPhoto | None:
        """The same answer with what the checks say of each map; None when it is forgotten."""
        with self._lock:
            answer = self.answer(key)
            if answer is None:
                return None
            return self._keep(replace(answer, page=check_page(answer.classifier, answer.page)))

    def with_more(self, key: str) -> ExplainedPhoto | None:
        """The same answer with the maps that need many passes, checked as well."""
        with self._lock:
            answer = self.answer(key)
            if answer is None:
                return None
            return self._keep(replace(answer, page=add_slow_maps(answer.classifier, answer.page)))

    def answer(self, key: str) -> ExplainedPhoto | None:
        """An answer by its key, if it is still kept."""
        return self._answers.get(key)

    def classifier(self, model: ModelChoice) -> Classifier:
        """The classifier of a choice, loaded once for each version of its file."""
        with self._lock:
            run = run_of_choice(self.workbench.runs, model)
            file = model.weights if run is None else run / runs.MODEL
            version = file.stat().st_mtime_ns if file is not None and file.is_file() else 0
            if (model, version) not in self._models:
                self._models[model, version] = classifier_of_choice(self.workbench.runs, model)
            return _used(self._models, (model, version), _WARM_MODELS)

    def image_model(self, models: Sequence[ModelChoice]) -> ModelChoice:
        """Whose test images to offer: the first with a run behind it, else simply the first."""
        have = (m for m in models if run_of_choice(self.workbench.runs, m) is not None)
        return next(have, models[0])

    def test_images(self, model: ModelChoice) -> ImageSet:
        """The test images of the run behind a model.

        Raises UsageError for a model that is no run, DataError when its source has gone.
        """
        folder = run_of_choice(self.workbench.runs, model)
        if folder is None:
            raise UsageError(f"{model} comes without its images")
        return test_images(self.workbench, folder)

    def _keep(self, answer: ExplainedPhoto) -> ExplainedPhoto:
        self._answers[answer.key] = answer
        return _used(self._answers, answer.key, _ANSWERS)


@cache
def explainer_of(workbench: Workbench) -> Explainer:
    """What this workbench keeps."""
    return Explainer(workbench)


def read_photo(data: bytes, name: str) -> Photo:
    """A file that somebody brought, decoded; raises BadImage.

    A process of its own reads it first: a file that crashes or hangs its decoder ends only that.
    """
    with tempfile.TemporaryDirectory(prefix="glasshouse-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        (result,) = decode_files([path], Fitting(8, 8, "stretch"), workers=1)
    if not result.pixels:
        raise BadImage(name, result.reason)
    return Photo(name, decode(data, name=name))


def photo_of(images: ImageSet, row: int) -> Photo:
    """An image of a set, which has the net's size already."""
    pixels = np.ascontiguousarray(images.pixels[row].transpose(1, 2, 0))
    label = images.class_names[int(images.labels[row])]
    return Photo(str(images.ids[row]), pixels, is_ready=True, class_name=label)


def _answered(
    model: ModelChoice, classifier: Classifier, photo: Photo, class_name: str | None
) -> ExplainedPhoto:
    wanted = classifier.preprocessing
    is_there = photo.is_ready and photo.pixels.shape[:2] == (wanted.height, wanted.width)
    image = (
        np.ascontiguousarray(photo.pixels.transpose(2, 0, 1))
        if is_there
        else preprocess(photo.pixels, wanted)
    )
    request = MapRequest(
        target_class=class_name, activations="in depth", has_slow=False, is_checked=False
    )
    page = explain_image(classifier, image, request)
    shown = _shown(photo, image, wanted)
    return ExplainedPhoto(secrets.token_hex(8), model, photo, classifier, page, shown)


def _shown(photo: Photo, image: NDArray[np.uint8], wanted: Preprocessing) -> Pixels:
    """The photo at a whole multiple of the net's size, as large as a page needs it.

    What the file holds beyond the net's own input is shown; a small image keeps its pixels.
    """
    times = max(1, _SHOWN_SIDE // max(image.shape[1:]))
    sharp = 1 if photo.is_ready else min(photo.pixels.shape[:2]) // min(image.shape[1:])
    sharp = max(1, min(times, sharp))
    large = replace(wanted, height=wanted.height * sharp, width=wanted.width * sharp)
    drawn = image if sharp == 1 else preprocess(photo.pixels, large)
    whole = drawn.transpose(1, 2, 0).repeat(times // sharp, axis=0).repeat(times // sharp, axis=1)
    return np.ascontiguousarray(whole)


def _used(kept: "OrderedDict[Key, Value]", key: Key, most: int) -> Value:
    """The value of a key, now the newest; the oldest ones are forgotten."""
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
