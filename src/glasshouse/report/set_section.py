"""The section of a report on prediction sets: what they promise, and what was measured."""

from typing import Any

from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.evaluation.set_coverage import SetMetrics
from glasshouse.wording import percentage, pluralize

KINDS = {"lac": "smallest (LAC)", "aps": "adaptive (APS)", "raps": "adaptive (RAPS)"}


def set_values(evaluation: Evaluation) -> dict[str, Any]:
    """The template's values; none where the classifier has no prediction sets."""
    found = evaluation.prediction_sets
    if not found:
        return {}
    plain = next(each for each in found if each.asked == 0.95 and each.method == "lac")
    each_class = next(each for each in found if each.class_conditional)
    return {
        "set_kinds": KINDS,
        "set_classes": (plain, each_class),
        "sets_text": _promise(plain),
        "sets_remarks": _remarks(evaluation),
    }


def _promise(plain: SetMetrics) -> str:
    return (
        "A prediction set names every class that an image may show, such as “cat or dog”. "
        f"{plain.promise} The images must come from the same source as those. They also served to "
        "choose the temperature and, where the recipe says so, the epoch, which can make the "
        "promise a little optimistic. Therefore it is measured on the test split, which served for "
        f"nothing else: {_measured(plain)}"
    )


def _measured(plain: SetMetrics) -> str:
    low, high = 100 * plain.coverage.low, 100 * plain.coverage.high
    said = f"{percentage(plain.coverage.value, 1)} ({low:.1f} to {high:.1f})"
    if plain.coverage.high < plain.asked:
        return f"{said}, less than promised."
    if plain.coverage.low > plain.asked:
        return f"{said}, more than promised."
    return f"{said}, as promised."


def _remarks(evaluation: Evaluation) -> tuple[str, ...]:
    """What empty sets and sets with every class mean, and which classes are in every set."""
    found = evaluation.prediction_sets
    most_empty = max(found, key=lambda each: each.empty_count)
    most_whole = max(found, key=lambda each: each.whole_count)
    said = [_empty(most_empty, evaluation.accuracy.value)] if most_empty.empty_count else []
    if most_whole.whole_count:
        said.append(
            "A set with every class says that none can be ruled out: "
            f"{pluralize(most_whole.whole_count, 'image')} at {percentage(most_whole.asked, 0)}"
            f"{' for each class' if most_whole.class_conditional else ''}."
        )
    return (*said, *dict.fromkeys(each.shortage for each in found if each.shortage))


def _empty(most: SetMetrics, accuracy: float) -> str:
    why = ""
    if accuracy > most.asked:
        why = (
            f" As {percentage(accuracy)} of the answers are right, {percentage(most.asked, 0)} of "
            "the sets have the true class even if these stay without one."
        )
    return (
        f"An empty set ({pluralize(most.empty_count, 'image')} at {percentage(most.asked, 0)}) "
        f"says that no class is probable enough: it is one of the least certain images.{why} "
        "Adaptive sets are never empty; they may cover more than was asked for instead."
    )
