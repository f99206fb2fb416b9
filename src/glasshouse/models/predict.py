"""The verbs of a classifier on images, for callers that hold either."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.decode import Pixels
from glasshouse.errors import UsageError, type_words
from glasshouse.models.classifier import Classifier
from glasshouse.models.forward import (
    autocast as autocast,
    device_of as device_of,
    evaluating as evaluating,
    logits_of_few as logits_of_few,
    passes as passes,
    predict_logits as predict_logits,
    require_finite as require_finite,
)
from glasshouse.models.image_inputs import Images, image_pixels
from glasshouse.models.outputs import (
    Predictions as Predictions,
    load_predictions as load_predictions,
    log_softmax as log_softmax,
    most_probable as most_probable,
    predicted_classes as predicted_classes,
    predicted_matrix as predicted_matrix,
    probabilities as probabilities,
    save_predictions as save_predictions,
    sigmoid as sigmoid,
    softmax as softmax,
    to_probabilities as to_probabilities,
)


def predict(classifier: Classifier, images: Images, *, batch_size: int = 256) -> Predictions:
    """The logits of every image, in order, in float32: `Classifier.predict` as a function."""
    return require_classifier(classifier).predict(images, batch_size=batch_size)


def read_images(images: Images, classifier: Classifier) -> Pixels:
    """One image or several as the classifier takes them, uint8 ``(n, 3, h, w)``.

    images: as for `Classifier.predict`. Raises BadImage, naming the file, and DataError for what is
    no image or for no image at all.
    """
    return image_pixels(images, require_classifier(classifier).preprocessing)


def logits_of(
    classifier: Classifier,
    pixels: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    ids: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Logits ``(n, k)`` of decoded images alone, uint8 ``(n, 3, h, w)`` of the network's size.

    Includes the other views where the classifier uses some. batch_size: an upper bound; the
    results of an image do not depend on it beyond rounding. Raises NotFinite for NaN or infinity,
    naming the first such image by its id, or its position where ids are not given.
    """
    logits = predict_logits(
        classifier.net,
        classifier.preprocessing,
        pixels,
        batch_size=batch_size,
        views=classifier.views,
    )
    require_finite(logits, ids, classifier.net)
    return logits.numpy()


def classify(
    classifier: Classifier, images: Images, *, batch_size: int = 256
) -> NDArray[np.float64]:
    """Probabilities ``(n, k)`` alone, for the same images as `predict`.

    Calibrated where the classifier's temperature is that of a calibration.
    """
    return predict(classifier, images, batch_size=batch_size).probabilities


def require_classifier(thing: object) -> Classifier:
    """Return a Classifier unchanged; raise UsageError, with a hint, for anything else."""
    if isinstance(thing, Classifier):
        return thing
    hint = "load one with classifier_by_name or load_classifier"
    if isinstance(thing, tuple):
        hint = "train_classifier returns two values: classifier, epochs = train_classifier(...)"
    raise UsageError(f"expected a Classifier first, received {type_words(thing)}; {hint}")
