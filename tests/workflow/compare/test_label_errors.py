import numpy as np

from glasshouse.evaluation.intervals import wilson_of
from glasshouse.evaluation.metrics import hits
from glasshouse.models.predict import Predictions
from glasshouse.workflow.compare.label_errors import why_doubtful


def doubt(right: int, *, labels: list[int]) -> str:
    """What is said of predictions of which this many, the first, are right."""
    targets = np.array(labels)
    answers = np.where(np.arange(len(targets)) < right, targets, 1 - targets)
    predictions = Predictions(
        np.eye(2, dtype=np.float32)[answers], targets, targets.astype(np.str_), ("a", "b")
    )
    return why_doubtful(predictions, wilson_of(hits(predictions)))


def test_predictions_no_better_than_the_most_frequent_class_say_little_about_labels() -> None:
    said = doubt(26, labels=[0, 1] * 24)
    assert said.startswith("54 % of these predictions are right, and 50 % would be by always")
    assert doubt(44, labels=[0, 1] * 24) == ""
    # As many, where one class makes up nearly all images.
    assert doubt(44, labels=[0] * 44 + [1] * 4).startswith("92 %")
