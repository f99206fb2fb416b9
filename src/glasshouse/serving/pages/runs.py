"""The page of all runs: filter, sort, select some and compare them."""

from typing import Any

from fastapi import Request
from nicegui import ui

from glasshouse.runs.background import launches, status_without_folder
from glasshouse.runs.listing import Listed
from glasshouse.serving.pages.charts import spark_path
from glasshouse.serving.pages.live import epochs_of
from glasshouse.serving.pages.parts import (
    box,
    button,
    empty_state,
    in_thread,
    link_button,
    text,
)
from glasshouse.serving.pages.words import (
    compare_address,
    moment,
    run_address,
    score_interval,
    score_text,
)
from glasshouse.serving.run_lookup import listed_runs
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.wording import duration, shown_path

MOST_COMPARED = 8
_REFRESH_SECONDS = 3.0
_ROWS_PER_PAGE = 50

_STATUS = """
<q-td :props="props">
<span :class="'gh-status gh-' + props.row.status">{{ props.row.status }}</span></q-td>
"""
# This page is the first one: the relative address of another begins with a dot.
_NAME = """
<q-td :props="props"><a class="gh-run" :href="'.' + props.row.address"><template
v-for="(part, i) in props.row.name.split('/')"><wbr v-if="i">{{ (i ? '/' : '') + part }}</template>
</a>
<span :class="'gh-status gh-phone-only gh-' + props.row.status">{{ props.row.status }}</span></q-td>
"""
_CURVE = """
<q-td :props="props"><svg v-if="props.row.curve" width="72" height="18" aria-hidden="true">
<path :d="props.row.curve" fill="none" stroke="var(--accent)" stroke-width="1.5"/></svg></q-td>
"""
_SCORE = """
<q-td :props="props"><span :title="props.row.problem">{{ props.row.score_text }}</span>
<span class="gh-interval">{{ props.row.interval }}</span></q-td>
"""
_SELECT = """
<q-checkbox dense v-model="props.selected" :aria-label="'Select ' + props.row.name" />
"""
_SELECT_ALL = """
<q-checkbox dense v-model="props.selected" aria-label="Select all" />
"""
_NO_MATCH = """
<div class="gh-quiet">No runs match the filter.</div>
"""


async def build_runs(workbench: Workbench, request: Request) -> None:
    """Every run below the folder, newest first."""
    rows = await in_thread(run_rows, workbench)
    with box("gh-heading"):
        text("Runs", "h1")
        text(str(workbench.runs), "p", "gh-quiet")
    if not rows:
        _nothing_yet(workbench)
        return
    with box("gh-panel gh-runs"):
        with box("gh-row gh-tools"):
            filter_ = (
                ui.input(placeholder="Filter by name, source, recipe or status")
                .props('outlined dense clearable aria-label="Filter runs"')
                .classes("gh-filter gh-input")
            )
            note = text("", "span", "gh-quiet gh-push")
            compare = button("Compare", "compare_arrows").props("disable")
        table = _table(rows)
        table.bind_filter_from(filter_, "value", backward=lambda value: value or "")
    table.on_select(lambda: _show_selection(table, compare, note))
    compare.on_click(lambda: ui.navigate.to(compare_address([r["name"] for r in table.selected])))
    _show_selection(table, compare, note)

    async def refresh() -> None:
        now = await in_thread(run_rows, workbench)
        if now != table.rows:
            table.rows = now

    ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


def run_rows(workbench: Workbench) -> list[dict[str, Any]]:
    """The rows of the table: first the launches without a run folder, then every run."""
    listed = listed_runs(workbench)
    known = {one.name for one in listed}
    waiting = [
        _row(Listed(one.run, workbench.runs / one.run, "stopped", source=one.source))
        | {"status": status}
        for one in launches(workbench.runs)
        if one.run not in known and (status := status_without_folder(workbench.runs, one))
    ]
    return waiting + [_row(one) for one in listed]


def _row(run: Listed) -> dict[str, Any]:
    value, low, high = run.score or (None, None, None)
    interval = "" if low is None or high is None else score_interval(run.metric, low, high)
    if run.tried is not None and value is None:
        interval = f"validation {score_text(run.metric, run.tried)}"
    return {
        "name": run.name,
        "address": run_address(run.name),
        "status": run.status,
        "problem": run.problem,
        "source": shown_path(run.source),
        "recipe": run.recipe,
        "epochs": run.epochs,
        "epochs_text": epochs_of(run.epochs, run),
        "curve": spark_path(run.validation),
        "validation": max(run.validation, default=None),
        "metric": run.metric,
        "score": value,
        "score_text": score_text(run.metric, value),
        "interval": interval,
        "seconds": run.seconds,
        "time": duration(run.seconds) if run.seconds else "–",
        "started": moment(run.started),
    }


def _table(rows: list[dict[str, Any]]) -> ui.table:
    metrics = " or ".join(sorted({row["metric"] for row in rows}))
    columns = [
        _column("name", "Run", "left", classes="gh-name"),
        _column("status", "Status", "left", hidden="gh-phone-hidden"),
        _column("source", "Source", "left", hidden="gh-narrow-hidden"),
        _column("recipe", "Recipe", "left", hidden="gh-narrow-hidden"),
        _column("epochs", "Epochs", "right", hidden="gh-phone-hidden"),
        _column("curve", "Validation", "left", hidden="gh-phone-hidden") | {"sortable": False},
        _column("score", f"Test {metrics}, 95\u00a0%\u00a0CI", "right")
        | {"headerClasses": "gh-wraps"},
        _column("seconds", "Training time", "right", hidden="gh-narrow-hidden"),
        _column("started", "Started", "right", hidden="gh-narrow-hidden"),
    ]
    table = ui.table(
        rows=rows,
        columns=columns,
        row_key="name",
        selection="multiple",
        pagination={"rowsPerPage": _ROWS_PER_PAGE if len(rows) > _ROWS_PER_PAGE else 0},
    ).classes("gh-qtable")
    table.props(
        "flat dense binary-state-sort :hide-bottom=" + str(len(rows) <= _ROWS_PER_PAGE).lower()
    )
    for name, slot in (
        ("name", _NAME), ("status", _STATUS), ("curve", _CURVE),
        ("score", _SCORE),
    ):  # fmt: skip
        table.add_slot(f"body-cell-{name}", slot)
    table.add_slot("body-cell-epochs", '<q-td :props="props">{{ props.row.epochs_text }}</q-td>')
    table.add_slot("body-cell-seconds", '<q-td :props="props">{{ props.row.time }}</q-td>')
    table.add_slot("body-selection", _SELECT)
    table.add_slot("header-selection", _SELECT_ALL)
    table.add_slot("no-data", _NO_MATCH)
    return table


def _column(
    name: str, label: str, align: str, *, hidden: str = "", classes: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "field": name,
        "align": align,
        "sortable": True,
        "classes": f"{hidden} {classes}".strip(),
        "headerClasses": hidden,
    }


def _show_selection(table: ui.table, compare: ui.button, note: Any) -> None:
    count = len(table.selected)
    compare.set_enabled(2 <= count <= MOST_COMPARED)
    compare.text = f"Compare {count}" if count >= 2 else "Compare"
    if count > MOST_COMPARED:
        note.text = f"At most {MOST_COMPARED} runs can be compared; {count} are selected"
    else:
        note.text = "" if count >= 2 else f"Select 2 to {MOST_COMPARED} runs"


def _nothing_yet(workbench: Workbench) -> None:
    with empty_state(
        "No runs yet",
        f"{workbench.runs} has no runs. Train a first classifier here or on the command line:",
        icon="view_list",
        command=workbench.first_command,
    ):
        if not workbench.read_only:
            link_button("Train a classifier", "/train", icon="play_arrow", main=True)


PAGE = Page("/", "Runs", build_runs, label="Runs", icon="view_list")
