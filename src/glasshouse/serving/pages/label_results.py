"""The results of a run where images may have several labels: metrics per label and calibration."""

from collections.abc import Mapping
from typing import Any

from glasshouse.serving.pages.parts import box, panel, stats, table, text
from glasshouse.serving.pages.reliability import show_reliability
from glasshouse.serving.pages.words import percent
from glasshouse.wording import pluralize

EvaluationRecord = Mapping[str, Any]


def has_several_labels(found: EvaluationRecord) -> bool:
    """Whether an evaluation is one of several labels per image."""
    return found.get("per_label") is not None


def show_label_headline(found: EvaluationRecord) -> None:
    """What one wants to know first: the mean average precision, and what it means."""
    share = found["mean_average_precision"]
    with box("gh-row"):
        text(_number(share["value"]), "strong", "gh-accuracy")
        with box("gh-stat", "dl"):
            text("Test mean average precision, 95 % confidence interval", "dt")
            text(f"{_number(share['low'])} to {_number(share['high'])}", "dd")
    text(label_sentence(found), "p")


def label_sentence(found: EvaluationRecord) -> str:
    """The result in one sentence, compared with guessing."""
    of = pluralize(found["image_count"], "test image")
    right = percent(found["accuracy"]["value"])
    return (
        f"Guessing would give {_number(found['chance'])}. All labels are right for {right} of {of}."
    )


def show_label_results(found: EvaluationRecord) -> None:
    """Every panel of the evaluation."""
    with panel("Test metrics", f"{found['image_count']:,} test images, used only once"):
        stats(
            {
                "All labels right": percent(found["accuracy"]["value"]),
                "Most frequent set of labels": percent(found["commonest_share"]),
                "Macro F1": _number(found["macro_f1"]["value"]),
                "Micro F1": _number(found["micro_f1"]),
                "Calibrated loss": f"{found['calibrated_loss']:.4f}",
                "Images without a label": f"{found['unlabelled_count']:,}",
            }
        )
    with panel("Metrics per label", "F1, precision and recall hold at the threshold of the label"):
        heads = ("Label", "Average precision", "95 % CI", "F1", "Precision", "Recall", "Threshold",
                 "Images")  # fmt: skip
        table(heads, [_row(each) for each in found["per_label"]], numbers_from=1).classes(
            "gh-bounded"
        )
    show_reliability(found, of="images with the label", over="probability of the label")


def _row(label: Mapping[str, Any]) -> tuple[str, ...]:
    found = label["average_precision"]
    interval = "–" if found is None else f"{_number(found['low'])} – {_number(found['high'])}"
    return (
        label["name"],
        "–" if found is None else _number(found["value"]),
        interval,
        "–" if label["f1"] is None else _number(label["f1"]["value"]),
        percent(label["precision"], 1),
        "–" if label["recall"] is None else percent(label["recall"]["value"], 1),
        percent(label["threshold"], 1),
        f"{label['support']:,}",
    )


def _number(value: float) -> str:
    return f"{value:.3f}"
