"""The prediction sets of the images of a page."""

from glasshouse.explanation.nouns import ExplanationPage
from glasshouse.models.predict import to_probabilities
from glasshouse.models.prediction_sets import PredictionSets, prediction_sets


def sets_of_page(page: ExplanationPage) -> PredictionSets | None:
    """The set of each image; None where the classifier has none."""
    if page.set_rule is None:
        return None
    shares = to_probabilities(page.logits, page.temperature, page.thresholds)
    return prediction_sets(shares, page.class_names, page.set_rule)
