"""The page of one run: its training while it lasts, then its results."""

import time
from collections.abc import Callable
from urllib.parse import quote, urlencode

from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.runs import folder as runs
from glasshouse.runs.background import forget_launch, resume_training, stop_training
from glasshouse.serving.pages.curves import show_curves
from glasshouse.serving.pages.gallery import explain_address
from glasshouse.serving.pages.live import (
    IN_SIGHT,
    LOG,
    PROBLEM,
    SHARE_DONE,
    live_words,
    marked,
    send_change,
)
from glasshouse.serving.pages.network import show_network, show_recipe
from glasshouse.serving.pages.parts import box, breakable, button, link, link_button, panel, text
from glasshouse.serving.pages.results import show_result, show_results
from glasshouse.serving.pages.search import is_search, show_search
from glasshouse.serving.pages.words import epoch_accuracy, run_address
from glasshouse.serving.run_watch import Snapshot, snapshot_of
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.wording import PRECISION

# A compromise between smooth curves and processor time, which training needs more.
_REFRESH_SECONDS = 2.0
_OF_EPOCHS = ("Epoch", "Validation accuracy", "Time left", "Speed", "Learning rate")
_STOPPING = "Stopping after the current step. Progress is saved."
_IN_SEARCH = (
    "A trial of a hyperparameter search, judged on the validation split and not tested. Ctrl+C "
    "where the search was started stops it, and the same command resumes it. "
)
_STOPPED_EARLY = "Stopped before training began, so there is nothing to lose."


async def build_run(workbench: Workbench, request: Request) -> None:
    """The run that the address names, kept up to date while it is in progress."""
    name = str(request.path_params["name"])
    is_inside = _is_inside(workbench, name)
    if is_inside and is_search(workbench, name):
        await show_search(workbench, name)
        return
    first = snapshot_of(workbench, name) if is_inside else None
    if first is None:
        ui.status_code(404)
        raise UsageError(f"There is no run named {name} in {workbench.runs}.")
    viewer = _Viewer(workbench, name, first)
    await viewer.show(first)
    viewer.timer = ui.timer(_REFRESH_SECONDS, viewer.refresh)
    ui.on(IN_SIGHT, viewer.set_visible)


def _until_next_refresh() -> float:
    """Seconds until the moment at which all pages refresh, skipping one that is too near.

    Waking up once for all viewers disturbs training less than once per viewer.
    """
    left = _REFRESH_SECONDS - time.monotonic() % _REFRESH_SECONDS
    return left if left > _REFRESH_SECONDS / 2 else left + _REFRESH_SECONDS


class _Viewer:
    """The page of a run in one browser tab; sent: the state that it shows."""

    def __init__(self, workbench: Workbench, name: str, first: Snapshot) -> None:
        self.workbench, self.name = workbench, name
        self.sent: Snapshot | None = None
        self.stage = first.stage
        self.timer: ui.timer | None = None
        head = _head(workbench, name)
        marked(text(live_words(first)[PROBLEM], "p", "gh-bad gh-problem"), PROBLEM)
        if first.listed.in_search:
            with box("gh-quiet gh-problem", "p"):
                text(_IN_SEARCH)
                link("All its trials", run_address(name.rpartition(f"/{runs.TRIAL_FOLDERS}/")[0]))
        self.result = box("gh-result")
        self.updates = [head, _live_stats(first), show_curves(first.listed.metric)]
        self.results = box("gh-stack gh-results")
        _log(first)
        self.details = box("gh-details")

    async def refresh(self) -> None:
        """Bring the page up to date."""
        if self.timer is not None:
            self.timer.interval = _until_next_refresh()
        now = snapshot_of(self.workbench, self.name)
        if now is None:
            ui.notify("This run has been deleted.", type="warning", timeout=0, close_button=True)
            if self.timer is not None:
                self.timer.deactivate()
            return
        if now is self.sent:
            return
        before, self.sent = self.sent, now
        send_change(before, now)
        if now.stage != self.stage:
            self.stage = now.stage
            await self.show(now)
        if now.is_over and self.timer is not None:
            self.timer.deactivate()

    async def set_visible(self, event: GenericEventArguments) -> None:
        """Pause while the tab is hidden."""
        if self.timer is None or (self.sent and self.sent.is_over):
            return
        self.timer.active = bool(event.args)
        if self.timer.active:
            await self.refresh()

    async def show(self, now: Snapshot) -> None:
        """Show the panels that a run has at this stage."""
        for update in self.updates:
            update(now)
        if now.listed.recipe and not self.details.default_slot.children:
            with self.details:
                show_network(self.workbench, self.name, at_once=now.status == "finished")
                show_recipe(now.listed.folder)
        if now.status == "finished" and not self.results.default_slot.children:
            _fill(self.result, show_result, self.workbench, self.name)
            _fill(self.results, show_results, self.workbench, self.name)


def _fill(
    place: Element, show: Callable[[Workbench, str], None], workbench: Workbench, name: str
) -> None:
    with place:
        try:
            show(workbench, name)
        except (GlasshouseError, KeyError, TypeError) as error:
            text(f"Cannot show the results: {error}", "p", "gh-bad")


def _is_inside(workbench: Workbench, name: str) -> bool:
    try:
        folder = (workbench.runs / name).resolve()
        folder.exists()  # raises OSError for a name that is too long for a file
        return folder.is_relative_to(workbench.runs.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def _head(workbench: Workbench, name: str) -> Callable[[Snapshot], None]:
    """Name, status and the actions that are possible now."""
    may_change = not workbench.read_only
    with box("gh-heading gh-run-head"):
        breakable(name, "h1")
        status = text("", "span", "gh-status")
        with box("gh-row gh-push"):
            stop = button("Stop", "stop").classes("gh-danger")
            resume = button("Resume", "play_arrow", main=True)
            remove = button("Remove", "close").tooltip("Remove this failed start from the list")
            again = link_button("Train again", f"/train?{urlencode({'like': name})}", icon="replay")
            explain = link_button("Explain", explain_address(name), icon="visibility")
            report = link_button("Report", f"/report/{quote(name)}", icon="description")
    report.props("target=_blank")
    stop.on_click(lambda: _attempt(_stop, workbench, name))
    resume.on_click(lambda: _attempt(_resume, workbench, name))
    remove.on_click(lambda: _attempt(_remove, workbench, name))

    def update(now: Snapshot) -> None:
        status.text = now.status
        status.classes(replace=f"gh-status gh-{now.status}")
        stop.set_visibility(may_change and now.is_at_work and not now.listed.in_search)
        resume.set_visibility(may_change and now.can_resume)
        resume.text = "Resume" if now.has_begun else "Start again"
        remove.set_visibility(may_change and now.can_resume and not now.has_begun)
        again.set_visibility(may_change and (now.listed.folder / runs.RECIPE).is_file())
        # With other settings, after divergence, or to test what a search has found.
        is_way_on = now.has_diverged or now.status == "tried"
        again.classes(**{"add" if is_way_on else "remove": "gh-main"})
        explain.set_visibility(now.status == "finished")
        report.set_visibility(now.has_report)

    return update


def _attempt(action: Callable[[Workbench, str], None], workbench: Workbench, name: str) -> None:
    try:
        # A button that is not shown can still be pressed by a program.
        workbench.require_changes()
        action(workbench, name)
    except GlasshouseError as error:
        ui.notify(str(error), type="negative")


def _stop(workbench: Workbench, name: str) -> None:
    stop_training(workbench.runs, name)
    ui.notify(_STOPPING if _has_begun(workbench, name) else _STOPPED_EARLY)


def _resume(workbench: Workbench, name: str) -> None:
    resume_training(workbench.runs, name, workbench.arguments)
    ui.notify("Resumed." if _has_begun(workbench, name) else "Started again.")


def _remove(workbench: Workbench, name: str) -> None:
    forget_launch(workbench.runs, name)
    ui.navigate.to("/")


def _has_begun(workbench: Workbench, name: str) -> bool:
    return (workbench.runs / name / runs.RECIPE).is_file()


def _live_stats(first: Snapshot) -> Callable[[Snapshot], None]:
    """The values that change, above a progress bar."""
    words = live_words(first)
    with panel(classes="gh-live") as section:
        with box("gh-stats", "dl"):
            stats: dict[str, Element] = {}
            for name in ("Epoch", "Validation accuracy", "Time left", "Training time", "Speed",
                         "Learning rate", "Source", "Recipe"):  # fmt: skip
                with box("gh-stat") as stats[name]:
                    text(_label(name, first), "dt")
                    marked(text(words[name], "dd"), name)
        with box("gh-progress") as frame:
            marked(box("gh-progress-done"), SHARE_DONE).style(f"width: {words[SHARE_DONE]}")
    frame.props("role=progressbar aria-valuemin=0 aria-valuemax=100 aria-label='Training progress'")
    frame.props["aria-valuenow"] = round(100 * first.done)

    def update(now: Snapshot) -> None:
        # The result says how it ended, and a head on features has no epochs to watch.
        section.set_visibility(now.status != "finished")
        found = live_words(now)
        # A run that ended has nothing left to wait for.
        for name in stats:
            shown = now.is_at_work or found[name] != "–"
            stats[name].set_visibility(shown and (now.has_epochs or name not in _OF_EPOCHS))
        frame.set_visibility(now.has_epochs)

    return update


def _label(name: str, first: Snapshot) -> str:
    if name != "Validation accuracy" or first.listed.metric != PRECISION:
        return name
    return f"{epoch_accuracy(PRECISION)}, validation"


def _log(first: Snapshot) -> None:
    """The output of a training run in the background."""
    with panel("Log", classes="gh-log-panel"):
        marked(text(live_words(first)[LOG], "pre", "gh-log"), LOG)


PAGE = Page("/run/{name:path}", "Run", build_run)
