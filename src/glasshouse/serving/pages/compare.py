"""The page that compares runs: their curves in one chart, and paired tests."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastapi import Request
from nicegui import ui

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.records import main_metric
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.charts import COLOURS, Options, echart, line, lines
from glasshouse.serving.pages.parts import (
    box,
    empty_state,
    heading,
    in_thread,
    link,
    panel,
    phone_form,
    table,
    text,
)
from glasshouse.serving.pages.runs import MOST_COMPARED
from glasshouse.serving.pages.words import epoch_accuracy, run_address, score_interval, score_text
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.wording import ACCURACY, duration, epochs_so_far, shown_path

if TYPE_CHECKING:  # the workbench starts without torch
    from glasshouse.evaluation.compare import Comparison
    from glasshouse.evaluation.compare_labels import LabelComparison
    from glasshouse.serving.paired_tests import PairedTests

_paired_tests: "Callable[..., PairedTests]" = deferred(
    "glasshouse.serving.paired_tests", "paired_tests"
)
_NOTE = (
    "p: McNemar's exact test; adjusted p: Holm's correction over all pairs. CI: paired "
    "bootstrap. Differences in percentage points of accuracy."
)
_LABEL_NOTE = (
    "p: z-test of the difference in mean average precision; adjusted p: Holm's correction over "
    "all pairs. CI: infinitesimal jackknife, paired by image. Correct: all labels of an image."
)
_CURVES = {
    "{accuracy} in validation, %": ("validation_accuracy", 100.0),
    "Validation loss, nats": ("validation_loss", 1.0),
    "Training loss, nats": ("train_loss", 1.0),
}


async def build_compare(workbench: Workbench, request: Request) -> None:
    """Compare the runs that the address names."""
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    heading("Compare", f"{len(names)} runs" if names else "")
    if not 2 <= len(names) <= MOST_COMPARED:
        empty_state(
            "No runs selected",
            f"Select 2 to {MOST_COMPARED} runs on the page Runs, then press Compare.",
            icon="compare_arrows",
        )
        return
    found = [_read(workbench, name) for name in names]
    _table(names, found)
    measured = {epoch_accuracy(main_metric(run.evaluation)[0]) for run in found if run.evaluation}
    accuracy = " or ".join(sorted(measured or {epoch_accuracy(ACCURACY)})).capitalize()
    with panel("Curves", "by epoch"), box("gh-three"):
        for words, (key, factor) in _CURVES.items():
            title = words.format(accuracy=accuracy)
            with box():
                text(title, "h3")
                echart(_overlaid(names, found, key, factor), f"{title} of {len(names)} runs")
    with panel("Significance", "paired tests on the same test images") as section:
        waiting = text("Comparing predictions …", "p", "gh-quiet")

    async def fill() -> None:
        folders = {name: run.folder for name, run in zip(names, found, strict=True)}
        paired = await in_thread(_paired_tests, folders)
        waiting.delete()
        with section:
            _tests(paired)

    ui.timer(0.05, fill, once=True)


def _read(workbench: Workbench, name: str) -> runs.Run:
    folder = run_folder(workbench, name)
    try:
        return runs.read_run(folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"{name} is damaged and cannot be compared: {error}") from error


def _overlaid(names: Sequence[str], found: Sequence[runs.Run], key: str, factor: float) -> Options:
    series = [
        line(
            name, [(e["epoch"], round(factor * e[key], 5)) for e in run.epochs if key in e], colour
        )
        for name, run, colour in zip(names, found, COLOURS, strict=False)
    ]
    return lines(series, x="epoch")


def _table(names: Sequence[str], found: Sequence[runs.Run]) -> None:
    metrics = [main_metric(run.evaluation)[0] for run in found if run.evaluation]
    title = f"Test {' or '.join(sorted(set(metrics or [ACCURACY])))}"
    columns = ("Run", title, "95 % CI", "Epochs", "Training time", "Source", "Recipe")
    form = f"gh-table {phone_form(len(columns))}"
    with panel(), box("gh-scroll"), box(form, "table") as grid:
        with box("", "thead"), box("", "tr").props("role=row"):
            for i, name in enumerate(columns):
                head = text(name, "th", "gh-number" if 0 < i < 5 else "")
                head.props("scope=col role=columnheader")
        with box("", "tbody"):
            for i, (name, run, colour) in enumerate(zip(names, found, COLOURS, strict=False)):
                _row(columns, name, run, colour, is_entry=i == 0)
    grid.props["role"] = "grid"
    grid.props["aria-label"] = "Runs: arrow keys move, Enter opens the run"


def _row(columns: Sequence[str], name: str, run: runs.Run, colour: str, *, is_entry: bool) -> None:
    """One run; is_entry: the Tab key enters the grid here."""
    metric, share = main_metric(run.evaluation) if run.evaluation else (ACCURACY, None)
    has_no_epochs = run.recipe.transfer.way == "features"
    with box("", "tr").props("role=row"):
        with box("", "td").props("role=gridcell") as first:
            box("gh-key").style(f"background: {colour}")
            link(name, run_address(name), "gh-run").props("tabindex=-1")
        first.props["tabindex"] = 0 if is_entry else -1
        cells = (
            score_text(metric, share["value"]) if share else "not evaluated yet",
            score_interval(metric, share["low"], share["high"]) if share else "",
            "features"
            if has_no_epochs
            else epochs_so_far(len(run.epochs), run.recipe.train.epochs, " / "),
            duration(run.seconds),
            shown_path(run.source),
            run.recipe.name,
        )
        for i, cell in enumerate(cells):
            shown = text(cell, "td", "gh-number" if i < 4 else "")
            shown.props("role=gridcell tabindex=-1").props["data-label"] = columns[i + 1]


def _tests(paired: "PairedTests") -> None:
    if paired.problem:
        text(paired.problem, "p", "gh-quiet")
    if paired.unfinished:
        text(f"Not evaluated yet: {', '.join(paired.unfinished)}.", "p", "gh-quiet")
    if not paired.comparisons:
        return
    for one in paired.comparisons[:3]:
        text(one.verdict, "p", "gh-verdict")
    for name, reason in paired.unfit.items():
        text(f"Left out: {name}. {reason.removesuffix('.')}.", "p", "gh-quiet")
    several = paired.are_several
    table(
        ("First", "Second", "Second minus first", "95 % CI", "Only first correct",
         "Only second correct", "p", "adjusted p"),
        [_pair(one, several=several) for one in paired.comparisons],
        numbers_from=2,
    )  # fmt: skip
    text(_LABEL_NOTE if several else _NOTE, "p", "gh-note")


def _pair(one: "Comparison | LabelComparison", *, several: bool) -> tuple[str, ...]:
    difference = one.difference
    factor, form, unit = (1, "+.3f", "") if several else (100, "+.2f", " points")
    value, low, high = (
        format(factor * each, form) for each in (difference.value, difference.low, difference.high)
    )
    return (
        one.first,
        one.second,
        f"{value}{unit}",
        f"{low} to {high}",
        f"{len(one.only_first_right):,}",
        f"{len(one.only_second_right):,}",
        _p(one.p),
        _p(one.p_adjusted),
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


PAGE = Page("/compare", "Compare", build_compare)
