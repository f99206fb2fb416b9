"""A few images of the validation split with a map for each label that is predicted for them."""

import numpy as np

from glasshouse.data.images import ImageSet, take
from glasshouse.errors import GlasshouseError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import METHODS, MethodName
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions
from glasshouse.report.label_report import ExplainedLabels, label_rows

# Few, because every training run explains them.
_MOST, _MOST_LABELS = 6, 4
_METHOD: MethodName = "grad-cam"


def explain_labels(
    classifier: Classifier, images: ImageSet, predictions: Predictions
) -> ExplainedLabels:
    """Explain each predicted label of a few images, those with the most predicted labels first.

    images: those of the predictions, in the same order. A network that cannot be explained gets a
    sentence that says why.
    """
    found = predictions.predicted_matrix
    counts = np.minimum(found.sum(axis=1), _MOST_LABELS)
    chosen = np.argsort(-counts, kind="stable")[:_MOST]
    chosen = chosen[counts[chosen] > 0]
    if not len(chosen):
        return ExplainedLabels("No label is predicted for any validation image.")
    few = take(images, chosen)
    pairs = [
        (row, int(label))
        for row, place in enumerate(chosen)
        for label in np.flatnonzero(found[place])[:_MOST_LABELS]
    ]
    rows, labels = (np.array(each, dtype=np.int64) for each in zip(*pairs, strict=True))
    try:
        page = explain_page(classifier, few.pixels[rows], methods=[_METHOD], target_class=labels)
    except GlasshouseError as error:
        return ExplainedLabels(f"The labels cannot be explained: {error}.")
    text = (
        f"Validation images with a {METHODS[_METHOD].title} map, computed at "
        f"{page.explanations[0].layer}, for each label that is predicted for them. "
        "Each map has its own colour scale."
    )
    shares = predictions.probabilities[chosen]
    return ExplainedLabels(text, label_rows(few, page.explanations[0], rows, shares))
