"""A finished run to its plots and its report; everything drawn comes from plain files or nouns."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glasshouse.data.images import Splits
from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions
from glasshouse.models.summary import Summary, summarize
from glasshouse.report import plots
from glasshouse.report.finder_plots import finder_curve
from glasshouse.report.pictures import figure_png
from glasshouse.report.run_report import RunReport, Table, mistake_pictures, write_report
from glasshouse.storage import read_json, write_bytes
from glasshouse.training.finder import LrCurve, curve_from_json
from glasshouse.workflow import runs
from glasshouse.workflow.environment import peak_memory_bytes


def write_run_report(
    folder: Path,
    splits: Splits,
    classifier: Classifier,
    predictions: Predictions,
    evaluation: Evaluation,
) -> None:
    """Write plots/*.png and the self-contained report.html of a run folder."""
    run = runs.read_run(folder)
    curve = _found_curve(run)
    figures = {
        **({"curves": plots.curves(run.epochs)} if run.epochs else {}),
        **({} if curve is None else {"finder": finder_curve(curve)}),
        "confusion": plots.confusion(evaluation),
        "reliability": plots.reliability(evaluation),
        "per-class": plots.per_class(evaluation),
        "examples": plots.examples(splits.test, predictions, choice="random"),
        "mistakes": plots.examples(splits.test, predictions, choice="worst"),
    }
    for name, figure in figures.items():
        write_bytes(folder / "plots" / f"{name}.png", figure_png(figure))
    write_report(_describe(run, splits, classifier, evaluation), folder / runs.REPORT)


def _describe(
    run: runs.Run, splits: Splits, classifier: Classifier, evaluation: Evaluation
) -> RunReport:
    shape = (3, splits.train.height, splits.train.width)
    return RunReport(
        title=run.folder.name,
        evaluation=evaluation,
        source=run.environment["data"]["source"],
        split_counts=run.environment["data"]["pictures"],
        command=run.environment["command"],
        recipe_toml=(run.folder / runs.RECIPE).read_text(encoding="utf-8"),
        notes=splits.notes,
        bad_files=splits.bad_files,
        network=_network_table(summarize(classifier.net, shape)),
        epochs=run.epochs,
        pictures=mistake_pictures(evaluation, splits.test),
        cost=_cost(run),
        environment=_environment(run.environment),
    )


def _found_curve(run: runs.Run) -> LrCurve | None:
    path = run.folder / runs.FINDER
    return curve_from_json(read_json(path)["curve"]) if path.is_file() else None


def _rate_text(run: runs.Run) -> str:
    """The rate that was really used, where the recipe leaves it to the range test."""
    if run.recipe.train.lr != "auto":
        return f"{run.recipe.train.lr:.3g} at its highest, from the recipe"
    record = read_json(run.folder / runs.FINDER)
    return (
        f"{record['lr']:.3g} at its highest, found by a range test in {record['seconds']:.1f} s "
        f"({record['verdict']})"
    )


def _network_table(summary: Summary) -> Table:
    rows = tuple(
        (
            row.name,
            row.kind,
            "x".join(str(size) for size in row.output_shape or ()),
            row.parameters,
            row.macs,
        )
        for row in summary.rows
    )
    total = ("total", "", "", summary.parameters, summary.macs)
    return Table(("layer", "type", "output", "parameters", "multiply-adds"), (*rows, total))


def _cost(run: runs.Run) -> dict[str, str]:
    seconds = math.fsum(epoch["seconds"] for epoch in run.epochs)
    speeds = sorted(epoch["images_per_second"] for epoch in run.epochs)
    return {
        "training": f"{seconds:,.1f} s in {len(run.epochs)} epochs",
        "speed": f"{speeds[len(speeds) // 2]:,.0f} images/s (median epoch)" if speeds else "",
        "learning rate": _rate_text(run),
        "largest memory": f"{peak_memory_bytes() / 2**20:,.0f} MiB",
        "machine": f"{run.environment['processor']}, {run.environment['threads']} threads",
        "device": f"{run.environment['device']}, {run.environment['precision']}",
    }


def _environment(environment: Mapping[str, Any]) -> dict[str, str]:
    return {
        **environment["versions"],
        "system": environment["system"],
        "started": environment["started"],
        "data fingerprint": environment["data"]["fingerprint"],
    }
