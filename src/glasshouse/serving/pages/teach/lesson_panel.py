"""The panel of the page Teach that trains: which backbone, what is missing, how far it is."""

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.runs.background import log_end
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.gallery import explain_address
from glasshouse.serving.pages.parts import box, button, in_thread, link, name_field, panel, text
from glasshouse.serving.pages.words import run_address
from glasshouse.serving.run_watch import snapshot_of
from glasshouse.serving.taught_sets import what_is_missing
from glasshouse.serving.teaching import (
    BackboneChoice,
    backbones,
    launch_of_set,
    runs_of_set,
    start_teaching,
    step_of,
)
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import duration, percentage

_LOG_LINES = 8
_at_hand: Callable[[], list[str]] = deferred("glasshouse.models.pretrained", "names_at_hand")


class LessonPanel:
    """on_trained: called with the name of a run that can be tried."""

    def __init__(self, workbench: Workbench, folder: Path) -> None:
        self.on_trained: Callable[[str], None] = lambda run: None
        self._workbench, self._folder = workbench, folder
        self._backbones: dict[str, BackboneChoice] = {}
        self._run, self._started = "", 0.0
        with panel("Train", "a new classifier on top of a pretrained network", "gh-lesson"):
            with box("gh-field"):
                self._choice = ui.select({}, on_change=self._describe).classes("gh-input")
                self._choice.props("outlined dense options-dense")
                name_field("Backbone", self._choice)
                self._words = text("", "span", "gh-help")
            self._go = button("Train", "play_arrow", main=True).classes("gh-go")
            self._go.on_click(self._start)
            self._missing = text("", "p", "gh-help").props("aria-live=polite")
            self._state = box("gh-lesson-state").props("aria-live=polite")
        self._offer([])
        self._timer = ui.timer(1.0, self._look, active=False)

    def on_images(self) -> None:
        """Say what the data set still needs."""
        missing = what_is_missing(self._folder)
        self._missing.text = missing or (
            "A fifth of the images, at least one per class, is held out for the test. Twenty or "
            "more per class make a difference."
        )
        self._go.set_enabled(not missing and not self._timer.active)

    async def begin(self) -> None:
        """Follow a training that is running, or offer the newest run for trial."""
        launch = await in_thread(launch_of_set, self._workbench, self._folder)
        found = await in_thread(runs_of_set, self._workbench, self._folder)
        finished = next((run.name for run in found if run.status == "finished"), None)
        if launch is not None:
            self._follow(launch.run)
        elif finished is not None:
            self._show_result(finished)
        self.on_images()
        self._offer(await in_thread(_at_hand))

    def _offer(self, at_hand: list[str]) -> None:
        found = backbones(self._workbench, at_hand)
        self._backbones = {each.name: each for each in found}
        chosen = self._choice.value
        value = chosen if chosen in self._backbones and at_hand == [] else found[0].name
        self._choice.set_options({each.name: each.title for each in found}, value=value)
        self._describe()

    def _describe(self) -> None:
        if self._choice.value in self._backbones:
            self._words.text = self._backbones[self._choice.value].description

    async def _start(self) -> None:
        backbone = self._backbones[str(self._choice.value)]
        try:
            run = await in_thread(start_teaching, self._workbench, self._folder, backbone)
        except GlasshouseError as error:
            self._state.clear()
            with self._state:
                text(str(error), "p", "gh-bad gh-problem").props("role=alert")
            return
        self._follow(run)

    def _follow(self, run: str) -> None:
        self._run, self._started = run, time.monotonic()
        self._go.set_enabled(False)
        self._state.clear()
        with self._state, box("gh-row gh-step"):
            ui.spinner(size="18px").props("aria-hidden=true")
            self._step = text("Starting", "span")
            self._clock = text("", "span", "gh-quiet")
        self._timer.activate()

    async def _look(self) -> None:
        now = await in_thread(snapshot_of, self._workbench, self._run)
        if now is None:
            return
        if now.is_at_work:
            self._step.text = await in_thread(step_of, self._workbench, self._run)
            self._clock.text = duration(time.monotonic() - self._started)
            return
        if now.status == "finished" and not now.is_over:
            return  # the report is still being written
        self._timer.deactivate()
        if now.is_over:
            self._show_result(self._run)
        else:
            self._show_failure()
        self.on_images()

    def _show_result(self, run: str) -> None:
        self._state.clear()
        found = next((r for r in runs_of_set(self._workbench, self._folder) if r.name == run), None)
        with self._state:
            with box("gh-row"):
                ui.icon("check_circle").classes("gh-good").props("aria-hidden=true")
                text(f"{run} is trained.", "span", "gh-trained")
            if found is not None and found.score is not None:
                value, low, high = found.score
                text(
                    f"{percentage(value, 0)} right on the images held out for the test (95 % "
                    f"confidence interval {percentage(low, 0)} to {percentage(high, 0)}).",
                    "p",
                )
            with box("gh-row gh-choices"):
                link("Results", run_address(run), "gh-pill")
                link("Explain", explain_address(run), "gh-pill")
                link("Check the images", f"/data?{self._query()}", "gh-pill")
                link("Other networks", f"/train?{self._query()}", "gh-pill")
            text(f"Images: {self._folder}", "p", "gh-help gh-path")
        self.on_trained(run)

    def _show_failure(self) -> None:
        lines = log_end(self._workbench.runs, self._run).splitlines()[-_LOG_LINES:]
        self._state.clear()
        with self._state:
            text("The training stopped with this message:", "p", "gh-bad").props("role=alert")
            text("\n".join(lines) or "(no message)", "pre", "gh-log")
            link("Check the images", f"/data?{self._query()}", "gh-pill")

    def _query(self) -> str:
        return urlencode({"source": str(self._folder)}, quote_via=quote)
