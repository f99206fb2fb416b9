"""Metrics as text for a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from glasshouse.wording import level, percentage

if TYPE_CHECKING:
    from glasshouse.evaluation.evaluation import AnyEvaluation, Evaluation
    from glasshouse.evaluation.intervals import Interval
    from glasshouse.evaluation.metrics import ClassMetrics
    from glasshouse.evaluation.multi_label import MultiLabelEvaluation
    from glasshouse.workflow.compare.seeds import SeedSummary

_CLASSES, _PAIRS, _MISTAKES = 40, 5, 5


def format_evaluation(evaluation: "AnyEvaluation") -> str:
    """The main metrics, the classes and the mistakes; the report and --json hold the rest."""
    from glasshouse.evaluation.multi_label import MultiLabelEvaluation

    if isinstance(evaluation, MultiLabelEvaluation):
        return "\n".join([*_label_headline(evaluation), "", *label_lines(evaluation)])
    return "\n".join(
        [*_headline(evaluation), "", *class_lines(evaluation.per_class), "", *_mistakes(evaluation)]
    )


def metric_interval(metric: str, value: "Interval") -> str:
    """A metric by its name, as `main_metric` has it, followed by its 95 % interval."""
    from glasshouse.wording import ACCURACY

    return str(value) if metric == ACCURACY else value_with_interval(value)


def format_seeds(summary: "SeedSummary") -> str:
    """One line per seed, then the mean with its confidence interval."""
    from glasshouse.wording import metric_text

    metric = summary.metric
    rows = zip(summary.folders, summary.scores, summary.losses, strict=True)
    lines = [
        f"{name}  {metric} {metric_text(metric, score)}  loss {loss:.4f}"
        for name, score, loss in rows
    ]
    interval, deviation = summary.score_interval, summary.score_deviation
    if interval is None or deviation is None:
        return "\n".join([*lines, "one seed gives no confidence interval; use --seeds 3 or more"])
    return "\n".join(
        [
            *lines,
            f"{metric}, mean of {len(summary.seeds)} seeds: {metric_interval(metric, interval)}, "
            f"95 % t-interval; standard deviation {metric_text(metric, deviation)}",
            f"{summary.seconds:,.1f} s of training per seed",
        ]
    )


def _headline(evaluation: "Evaluation") -> Iterator[str]:
    yield f"accuracy       {evaluation.accuracy}, 95 % confidence interval"
    for top in evaluation.top_k:
        yield f"top-{top.k}          {top.accuracy}"
    yield f"images         {evaluation.image_count:,}, {evaluation.mistake_count:,} misclassified"
    baseline = percentage(evaluation.commonest_share, 2)
    yield f"baseline       {baseline}, always predicting the most common class"
    before, after = evaluation.before, evaluation.after
    yield f"loss           {before.loss:.4f}, calibrated {after.loss:.4f}"
    yield (
        f"calibration    error (ECE) {percentage(before.ece, 2)}, "
        f"{percentage(after.ece, 2)} at temperature {after.temperature:.3f}"
    )
    for sets in evaluation.prediction_sets:
        kind = f"{sets.method}, per class" if sets.class_conditional else sets.method
        yield (
            f"{level(sets.asked)} sets      {sets.coverage} have the true "
            f"class, {sets.mean_size.value:.2f} classes on average ({kind})"
        )


def value_with_interval(value: "Interval") -> str:
    """A value in 0..1 that is no share, such as an average precision, with its 95 % interval."""
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _label_headline(evaluation: "MultiLabelEvaluation") -> Iterator[str]:
    found = evaluation.mean_average_precision
    yield f"mean average precision  {value_with_interval(found)}, 95 % confidence interval"
    yield f"guessing                {evaluation.chance:.3f}"
    score = value_with_interval(evaluation.macro_f1)
    yield f"F1                      macro {score}, micro {evaluation.micro_f1:.3f}"
    yield f"all labels right        {evaluation.accuracy}"
    baseline = percentage(evaluation.commonest_share, 2)
    yield f"baseline                {baseline}, always predicting the most common combination"
    bare = f"{evaluation.unlabelled_count:,} without a label"
    yield f"images                  {evaluation.image_count:,}, {bare}"
    before, after = evaluation.before, evaluation.after
    yield f"loss                    {before.loss:.4f}, calibrated {after.loss:.4f}"
    yield (
        f"calibration             error (ECE) {percentage(before.ece, 2)}, "
        f"{percentage(after.ece, 2)} at temperature {after.temperature:.3f}"
    )


def label_lines(evaluation: "MultiLabelEvaluation") -> Iterator[str]:
    """A table of the labels, with average precision, F1 and threshold."""
    rows = evaluation.per_label
    width = max(5, *(len(row.name) for row in rows))
    columns = f"{'average precision':<22}  {'F1':<22}  threshold"
    yield f"{'label':<{width}}    images  {columns}"
    for row in rows[:_CLASSES]:
        precision, score = (
            value_with_interval(each) if each else "-" for each in (row.average_precision, row.f1)
        )
        yield (
            f"{row.name:<{width}}  {row.support:>8,}  {precision:<22}  {score:<22}  "
            f"{percentage(row.threshold, 2):>9}"
        )
    if len(rows) > _CLASSES:
        yield f"and {len(rows) - _CLASSES} more labels; see all with --json"


def class_lines(rows: "Sequence[ClassMetrics]") -> Iterator[str]:
    """A table of the classes, each with the 95 % confidence interval of its recall."""
    width = max(5, *(len(row.name) for row in rows))
    yield f"{'class':<{width}}    images  precision  recall                       F1"
    for row in rows[:_CLASSES]:
        recall = str(row.recall) if row.recall else "-"
        yield (
            f"{row.name:<{width}}  {row.support:>8,}  {_percent(row.precision):>9}  "
            f"{recall:<27}  {_percent(row.f1):>6}"
        )
    if len(rows) > _CLASSES:
        yield f"and {len(rows) - _CLASSES} more classes; see all with --json"


def _mistakes(evaluation: "Evaluation") -> Iterator[str]:
    if evaluation.mistake_count == 0:
        yield "no mistakes"
        return
    yield "most confused classes"
    for pair in evaluation.confused_pairs[:_PAIRS]:
        share = f"{percentage(pair.share, 1)} of the class"
        yield f"  {pair.true} predicted as {pair.predicted}: {pair.count} ({share})"
    yield "most confident mistakes"
    for mistake in evaluation.mistakes[:_MISTAKES]:
        yield (
            f"  {mistake.id}: {mistake.true} predicted as {mistake.predicted} "
            f"with {percentage(mistake.probability, 1)}"
        )


def _percent(value: float | None) -> str:
    return "-" if value is None else percentage(value, 1)
