"""Plots and report of a finished run, made from its files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from glasshouse.data.image_checks import check
from glasshouse.data.images import Splits
from glasshouse.evaluation.evaluation import AnyEvaluation, Evaluation
from glasshouse.evaluation.multi_label import MultiLabelEvaluation
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.rows import draw_mistakes
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions
from glasshouse.models.summary import Summary, summarize
from glasshouse.report import plots
from glasshouse.report.conclusions import evaluation_conclusions, training_conclusions
from glasshouse.report.encoding import figure_png
from glasshouse.report.explanation_page import ExplainedMistakes
from glasshouse.report.finder_plots import plot_lr_curve
from glasshouse.report.image_plots import plot_images, plot_mistakes
from glasshouse.report.label_plots import plot_labels
from glasshouse.report.label_report import ExplainedLabels, label_conclusions
from glasshouse.report.near_tiles import NearTiles
from glasshouse.report.run_report import (
    GALLERY,
    RunReport,
    Section,
    Table,
    class_samples,
    confused_mistakes,
    images_of,
    write_report,
)
from glasshouse.report.unlike_section import UnlikeImages
from glasshouse.runs import folder as runs, records
from glasshouse.runs.records import read_run_file
from glasshouse.settings import TrainSettings
from glasshouse.storage import write_bytes, write_json
from glasshouse.training.lr_curve import LrCurve, curve_from_json
from glasshouse.training.schedules import learning_rate
from glasshouse.wording import ACCURACY, ALL_LABELS_RIGHT, percentage, pluralize
from glasshouse.workflow.train import snapshots
from glasshouse.workflow.train.environment import peak_memory_bytes
from glasshouse.workflow.train.time_plan import describe_budget
from glasshouse.workflow.use.kept_map import read_run_map

_RATE_POINTS = 400


@dataclass(frozen=True)
class Resembled:
    """What a report says of the training images, where a run's features are kept.

    near: those that the explained mistakes resemble. unlike: validation images unlike all of them.
    """

    near: NearTiles = field(default_factory=dict)
    unlike: UnlikeImages | None = None


def write_run_report(  # noqa: PLR0913 - the last is optional
    folder: Path,
    splits: Splits,
    classifier: Classifier,
    predictions: Predictions,
    evaluation: AnyEvaluation,
    explained: ExplainedMistakes | ExplainedLabels,
    resembled: Resembled | None = None,
) -> None:
    """Write plots/*.png and the self-contained report.html of a run folder.

    explained: the worst mistakes on the validation split; where images may have several labels, the
    predicted labels of a few of its images.
    """
    run = runs.read_run(folder)
    page = _describe(run, splits, classifier, evaluation)
    if resembled is not None:
        page = replace(page, near=resembled.near, unlike=resembled.unlike)
    if isinstance(explained, ExplainedMistakes) and explained.mistakes is not None:
        drawn = to_png(draw_mistakes(explained.mistakes))
        write_bytes(folder / runs.EXPLAINED_MISTAKES, drawn)
    if isinstance(evaluation, MultiLabelEvaluation):
        assert isinstance(explained, ExplainedLabels)
        images = images_of(evaluation.errors[:GALLERY], splits.test)
        page = replace(page, images=images, labels_explained=explained)
        figures = _label_figures(evaluation)
    else:
        assert isinstance(explained, ExplainedMistakes)
        page = _with_mistakes(page, splits, predictions, evaluation, explained)
        figures = _class_figures(splits, predictions, evaluation)
    curve = _found_curve(run)
    figures |= {
        **({"curves": _curves(run, evaluation)} if run.epochs else {}),
        **({} if curve is None else {"finder": plot_lr_curve(curve)}),
    }
    for name, figure in figures.items():
        write_bytes(folder / runs.PLOTS / f"{name}.png", figure_png(figure))
    write_report(page, folder / runs.REPORT)


def _curves(run: runs.Run, evaluation: AnyEvaluation) -> Figure:
    several = isinstance(evaluation, MultiLabelEvaluation)
    accuracy = ALL_LABELS_RIGHT if several else ACCURACY
    return plots.plot_curves(run.epochs, rates=_rates(run), accuracy=accuracy)


def _with_mistakes(
    page: RunReport,
    splits: Splits,
    predictions: Predictions,
    evaluation: Evaluation,
    explained: ExplainedMistakes,
) -> RunReport:
    confused = confused_mistakes(evaluation, predictions)
    shown = [*evaluation.mistakes[:GALLERY], *chain.from_iterable(confused)]
    images = images_of(shown, splits.test)
    return replace(page, confused=confused, images=images, explained=explained)


def _class_figures(
    splits: Splits, predictions: Predictions, evaluation: Evaluation
) -> dict[str, Figure]:
    return {
        "confusion": plots.plot_confusion(evaluation),
        "reliability": plots.plot_reliability(evaluation),
        "per-class": plots.plot_classes(evaluation),
        "examples": plot_images(splits.test, predictions),
        "mistakes": plot_mistakes(splits.test, predictions),
    }


def _label_figures(evaluation: MultiLabelEvaluation) -> dict[str, Figure]:
    return {
        "reliability": plots.plot_reliability(evaluation),
        "per-label": plot_labels(evaluation),
    }


def _describe(
    run: runs.Run, splits: Splits, classifier: Classifier, evaluation: AnyEvaluation
) -> RunReport:
    summary = summarize(classifier.net, (3, splits.train.height, splits.train.width))
    return RunReport(
        title=run.folder.name,
        evaluation=evaluation,
        source=run.source,
        split_counts=run.environment["data"]["images"],
        command=run.environment["command"],
        recipe_toml=(run.folder / runs.RECIPE).read_text(encoding="utf-8"),
        notes=splits.notes,
        bad_files=splits.bad_files,
        findings=check(splits),
        samples=class_samples(splits.train),
        heads=_heads_table(run),
        network=_network_table(summary),
        network_text=f"{summary.parameters:,} parameters, {summary.macs:,} multiply-adds per image "
        f"of {splits.train.width}x{splits.train.height} pixels.",
        epochs=run.epochs,
        rates=_rates(run),
        finder=_found_curve(run),
        cost=_cost(run),
        environment=_environment(run.environment),
        explanations=_snapshot_sections(run.folder),
        conclusions=_conclusions(run, evaluation),
        mistakes_page=runs.MISTAKES if (run.folder / runs.MISTAKES).is_file() else "",
        shortcuts=run.shortcut_verdict,
        shortcuts_page=runs.SHORTCUTS_PAGE,
        groups=run.group_verdict,
        groups_page=runs.GROUPS_PAGE,
        data_map=read_run_map(run.folder),
        data_map_page=runs.MAP_PAGE,
    )


def _conclusions(run: runs.Run, evaluation: AnyEvaluation) -> tuple[str, ...]:
    settings = run.recipe.train
    trained = training_conclusions(run.epochs, settings.epochs, settings.keep)
    if isinstance(evaluation, MultiLabelEvaluation):
        return (*label_conclusions(evaluation), *trained)
    return (*evaluation_conclusions(evaluation), *trained)


def _snapshot_sections(folder: Path) -> tuple[Section, ...]:
    """The strip of snapshots, where the run has it."""
    strip = folder / runs.SNAPSHOT_STRIP
    if not strip.is_file():
        return ()
    text = snapshots.describe_snapshots(folder)
    return (Section("Explanation maps after each epoch", strip.read_bytes(), text),)


def _found_curve(run: runs.Run) -> LrCurve | None:
    path = run.folder / runs.FINDER
    return (
        curve_from_json(read_run_file(path, records.FinderFile)["curve"])
        if path.is_file()
        else None
    )


def _rates(run: runs.Run) -> list[tuple[float, float]]:
    """The learning-rate schedule from the first step to the last."""
    settings = run.recipe.train
    if not run.epochs:
        return []
    if settings.lr == "auto":
        record = read_run_file(run.folder / runs.FINDER, records.FinderFile)
        found = {key: record[key] for key in ("lr", "schedule")}
        settings = TrainSettings.model_validate({**settings.model_dump(), **found})
    times = np.linspace(0, len(run.epochs), _RATE_POINTS).tolist()
    return [(time, learning_rate(settings, time)) for time in times]


def _rate_text(run: runs.Run) -> str:
    """The peak learning rate and where it came from."""
    if run.recipe.train.lr != "auto":
        return f"peak {run.recipe.train.lr:.3g}, from the recipe"
    record = read_run_file(run.folder / runs.FINDER, records.FinderFile)
    kind = record["schedule"]["type"]
    is_cyclical = kind in ("one_cycle", "triangular")
    why = f"its maximum for a {kind} schedule" if is_cyclical else record["verdict"]
    return f"peak {record['lr']:.3g}, found by a range test in {record['seconds']:.1f} s: {why}"


def _network_table(summary: Summary) -> Table:
    rows = tuple(
        (
            row.name,
            row.kind,
            "x".join(str(size) for size in row.output_shape or ()),
            row.parameters or "",
            row.macs or "",
        )
        for row in summary.rows
    )
    total = ("total", "", "", summary.parameters, summary.macs)
    return Table(("layer", "type", "output", "parameters", "multiply-adds"), (*rows, total))


def _heads_table(run: runs.Run) -> Table | None:
    """The heads that were fitted to frozen features, where there were any."""
    if run.recipe.transfer.way != "features":
        return None
    heads = read_run_file(run.folder / runs.HEADS, records.HeadsFile)["heads"]
    by_folds = heads[0]["fold_loss"] is not None
    headings = ("head", "C", "validation accuracy", "validation loss")
    rows = tuple(
        (
            head["kind"],
            head["C"],
            percentage(head["validation_accuracy"], 1),
            head["validation_loss"],
            *((head["fold_loss"],) if by_folds else ()),
            head["seconds"],
            "kept" if head["kept"] else "",
        )
        for head in heads
    )
    return Table((*headings, *(("loss over folds",) if by_folds else ()), "seconds", ""), rows)


def _cost(run: runs.Run) -> dict[str, str]:
    features = run.recipe.transfer.way == "features"
    record = read_run_file(run.folder / runs.HEADS, records.HeadsFile) if features else {}
    return {
        **(_training_cost(run) if run.epochs else {}),
        **(_features_cost(record) if features else {}),
        **_recorded_cost(run.folder),
        "machine": f"{run.environment['processor']}, threads: {run.environment['threads']}",
        "device": f"{run.environment['device']}, "
        f"{record.get('precision', run.environment['precision'])}",
    }


def _recorded_cost(folder: Path) -> dict[str, str]:
    path = folder / runs.COST
    if not path.is_file():
        return {}
    record = read_run_file(path, records.CostFile)
    cost = {}
    if (flop := record.get("training_flop")) is not None:
        cost["operations"] = f"{flop / 1e12:,.3g} TFLOP, trillions of floating-point operations"
    return {
        **cost,
        "peak memory": f"{record['peak_memory_bytes'] / 2**20:,.0f} MiB",
    }


def _features_cost(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        "features": f"{record['feature_seconds']:,.1f} s to extract, or to read from the cache",
        "heads": f"{record['head_seconds']:,.1f} s for all heads",
    }


def _training_cost(run: runs.Run) -> dict[str, str]:
    seconds = math.fsum(epoch["seconds"] for epoch in run.epochs)
    speeds = sorted(epoch["images_per_second"] for epoch in run.epochs)
    return {
        "training": f"{seconds:,.1f} s in {pluralize(len(run.epochs), 'epoch')}",
        "speed": f"{speeds[len(speeds) // 2]:,.0f} images/s (median epoch)",
        **_budget(run.environment),
        "learning rate": _rate_text(run),
    }


def write_cost(folder: Path, flop: int | None) -> None:
    """Write what the training took, unless an earlier process did: this one then did not train.

    flop: its floating-point operations, where they could be counted.
    """
    path = folder / runs.COST
    if not path.is_file():
        write_json(path, {"training_flop": flop, "peak_memory_bytes": peak_memory_bytes()})


def _budget(environment: Mapping[str, Any]) -> dict[str, str]:
    record = environment.get("budget")
    return {} if record is None else {f"{record['minutes']:g} minutes": describe_budget(record)}


def _environment(environment: Mapping[str, Any]) -> dict[str, str]:
    return {
        **environment["versions"],
        "system": environment["system"],
        "started": environment["started"],
        "data fingerprint": environment["data"]["fingerprint"],
    }
