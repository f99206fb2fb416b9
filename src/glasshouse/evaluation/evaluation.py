"""All metrics of one set of predictions."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.evaluation.calibration import Calibration, Selective, calibration, selective
from glasshouse.evaluation.compare import Comparison
from glasshouse.evaluation.compare_labels import LabelComparison
from glasshouse.evaluation.intervals import Interval, wilson_of
from glasshouse.evaluation.metrics import (
    Average,
    ClassMetrics,
    ConfusedPair,
    Mistake,
    average,
    confused_pairs,
    confusion_matrix,
    hits,
    per_class,
    require_valid,
    top_k_hits,
    worst_mistakes,
)
from glasshouse.evaluation.multi_label import MultiLabelEvaluation, evaluate_labels
from glasshouse.evaluation.set_coverage import SetMetrics, reported_sets
from glasshouse.models.predict import Predictions
from glasshouse.notebook import html_for_notebook
from glasshouse.wording import percentage

PAIRS, MISTAKES = 20, 100


@dataclass(frozen=True)
class TopAccuracy:
    """Top-k accuracy: how often the true class is among the k most probable."""

    k: int
    accuracy: Interval


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one set of predictions; shares in 0..1, losses in nats.

    commonest_share: the baseline accuracy of always predicting the most frequent class.
    confusion: counts ``(k, k)``, one row per true class. before, after: at temperature 1 and at the
    calibrated one. mistakes: the most confident first, of mistake_count in total. prediction_sets:
    by several rules; none for a classifier without conformity scores.
    """

    image_count: int
    class_names: tuple[str, ...]
    accuracy: Interval
    commonest_share: float
    top_k: tuple[TopAccuracy, ...]
    loss: float
    calibrated_loss: float
    per_class: tuple[ClassMetrics, ...]
    macro: Average
    weighted: Average
    confusion: NDArray[np.int64]
    confused_pairs: tuple[ConfusedPair, ...]
    mistake_count: int
    mistakes: tuple[Mistake, ...]
    before: Calibration
    after: Calibration
    selective: tuple[Selective, ...]
    prediction_sets: tuple[SetMetrics, ...] = ()

    def __repr__(self) -> str:
        low, high = self.accuracy.low, self.accuracy.high
        return (
            f"Evaluation({self.image_count:,} images, {len(self.class_names)} classes, "
            f"accuracy {percentage(self.accuracy.value, 1)} "
            f"({percentage(low, 1)} to {percentage(high, 1)}), "
            f"loss {self.loss:.3f}, {self.mistake_count:,} mistakes)"
        )

    def _repr_html_(self) -> str:
        return html_for_notebook(self)


AnyEvaluation = Evaluation | MultiLabelEvaluation


def evaluate(predictions: Predictions) -> Evaluation:
    """All metrics of a report; accuracies with 95 % Wilson intervals.

    Raises DataError when there are no images or the logits are not finite, and for predictions of
    several labels per image, which `evaluate_labels` is for.
    """
    require_valid(predictions)
    right = hits(predictions)
    before = calibration(predictions, 1.0)
    after = calibration(predictions, predictions.temperature)
    return Evaluation(
        image_count=len(predictions),
        class_names=predictions.class_names,
        accuracy=wilson_of(right),
        commonest_share=float(np.bincount(predictions.labels).max() / len(predictions)),
        top_k=_top_k(predictions),
        loss=before.loss,
        calibrated_loss=after.loss,
        per_class=per_class(predictions),
        macro=average(predictions, "macro"),
        weighted=average(predictions, "weighted"),
        confusion=confusion_matrix(predictions),
        confused_pairs=confused_pairs(predictions, PAIRS),
        mistake_count=int(np.count_nonzero(~right)),
        mistakes=worst_mistakes(predictions, MISTAKES),
        before=before,
        after=after,
        selective=selective(predictions),
        prediction_sets=reported_sets(predictions),
    )


def evaluate_any(predictions: Predictions) -> AnyEvaluation:
    """The metrics of predictions of one label per image or of several."""
    return evaluate_labels(predictions) if predictions.is_multi_label else evaluate(predictions)


def to_json(result: AnyEvaluation | Comparison | LabelComparison) -> dict[str, Any]:
    """The same metrics as plain JSON values; what is undefined is null."""
    return {key: _plain(value) for key, value in asdict(result).items()}


def _top_k(predictions: Predictions) -> tuple[TopAccuracy, ...]:
    # With k classes or fewer, top-k accuracy is always 1.
    sizes = [k for k in (3, 5) if k < len(predictions.class_names)]
    return tuple(TopAccuracy(k, wilson_of(top_k_hits(predictions, k))) for k in sizes)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
