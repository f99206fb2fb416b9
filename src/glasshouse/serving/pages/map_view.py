"""The contents of the page with a map: the chart, the selection, and the groups that are named."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.data_map import SPLIT_WORDS, DataMap
from glasshouse.report.map_plots import RAMP, colourings
from glasshouse.runs import folder as runs
from glasshouse.serving.pages.map_chart import MapChart
from glasshouse.serving.pages.map_selection import MapSelection
from glasshouse.serving.pages.parts import (
    box,
    button,
    empty_state,
    heading,
    in_thread,
    link_button,
    panel,
    relative,
    text,
)
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.run_maps import (
    MapWork,
    bits_of_rows,
    map_looks,
    map_of_run,
    map_work,
    rows_of_bits,
    start_map,
)
from glasshouse.serving.workbench import Workbench

_POLL_SECONDS = 1.0
_PLANES = {"pca": "PCA", "tsne": "t-SNE"}
_MODES = {"lasso": "Lasso", "box": "Box", "move": "Move"}


async def fill(workbench: Workbench, request: Request) -> None:
    """The map of the run that the address names, or a button that makes it."""
    name = str(request.path_params["name"])
    folder = run_folder(workbench, name)
    with box("gh-row gh-map-head"):
        heading(f"Map of {name}")
        link_button("Run", f"/run/{quote(name)}", icon="arrow_back").classes("gh-push")
    runs.require_trained(folder)
    await _MapPage(workbench, name, folder).open()


class _MapPage:
    """One browser tab with a map; version: of the map that it shows."""

    def __init__(self, workbench: Workbench, name: str, folder: Path) -> None:
        self.workbench, self.name, self.folder = workbench, name, folder
        self.version = 0
        self.is_damaged = False
        self.found: DataMap | None = None
        self.chart: MapChart | None = None
        self.selection: MapSelection | None = None
        self.state = box("gh-map-state")
        self.place = box("gh-stack")
        self.timer = ui.timer(_POLL_SECONDS, self.look, active=False)

    async def open(self) -> None:
        """Show what there is."""
        await self.look()
        if self.found is None and map_work(self.folder) is None and not self.is_damaged:
            self._ask()

    async def look(self) -> None:
        """Show a map that is new, and how far the next one is."""
        work = map_work(self.folder)
        try:
            kept = await in_thread(map_of_run, self.folder)
        except GlasshouseError as error:
            kept, self.is_damaged = None, True
            if work is None or work.is_over:
                self._ask(str(error))
                return
        if kept is not None and kept[1] != self.version:
            self.found, self.version = kept
            self._show()
        self._say(work)
        self.timer.active = work is not None and not work.is_over

    def _say(self, work: MapWork | None) -> None:
        self.state.clear()
        with self.state:
            if work is None:
                return
            if work.is_over:
                text(f"Cannot make the map: {work.error}", "p", "gh-bad gh-problem")
                if self.found is None and not self.workbench.read_only:
                    self._start_row("Try again")
                return
            with box("gh-waiting").props("role=status"):
                ui.spinner(size="20px").props("aria-hidden=true")
                text(f"{work.words} It goes on when this page is closed.")

    def _ask(self, problem: str = "") -> None:
        """Say that there is no map, and offer to make it."""
        self.state.clear()
        with self.state:
            if problem:
                text(problem[:1].upper() + problem[1:], "p", "gh-bad gh-problem")
            else:
                empty_state(
                    "No map yet",
                    "Each image becomes a point, near those that the network sees nearly the same "
                    "in. PCA is shown at once, t-SNE when it is done: in seconds for hundreds of "
                    "images, after minutes for thousands. On the command line:",
                    icon="scatter_plot",
                    command=f"glasshouse map {self.folder}",
                )
            if not self.workbench.read_only:
                self._start_row("Make the map")

    def _start_row(self, words: str) -> None:
        facts = runs.read_run(self.folder)
        names = [each for each in SPLIT_WORDS if each != "test" or facts.is_finished]
        with box("gh-row gh-map-start"):
            chosen = ui.select(
                {each: f"{SPLIT_WORDS[each]} images" for each in names},
                value=["validation"], multiple=True, label="Images",
            ).props("outlined dense options-dense").classes("gh-select gh-map-field")  # fmt: skip
            start = button(words, "scatter_plot", main=True)

        async def begin() -> None:
            try:
                start_map(self.workbench, self.folder, list(chosen.value))
            except GlasshouseError as error:
                ui.notify(str(error), type="negative")
                return
            await self.look()
            self.timer.active = True

        start.on_click(begin)

    def _show(self) -> None:
        assert self.found is not None
        found = self.found
        if self.chart is not None and self.selection is not None:
            same = len(self.selection.found) == len(found)
            if same:  # t-SNE has come: the images are the same, at other places
                self.selection.found = found
                self.words.text = found.words
                self.planes.set_options([_PLANES[each] for each in found.kept])
                self.planes.value = _PLANES[list(found.kept)[-1]]
                self.chart.show(**self._options(list(found.kept)[-1]))
                return
        self.place.clear()
        with self.place:
            self._panels(found)

    def _panels(self, found: DataMap) -> None:
        with panel("Map", found.images_in_words):
            self.words = text(found.words, "p", "gh-verdict")
            tools = box("gh-row gh-map-tools")
            self.chart = MapChart(self._options(list(found.kept)[-1]), found.words)
            text(
                "Draw around points to see their images; the buttons above the map zoom, and so "
                "does the wheel of a mouse. A click on a name below the map hides its points.",
                "p", "gh-note",
            )  # fmt: skip
        self.selection = MapSelection(self.workbench, self.name, self.folder, found)
        self.selection.on_rows = self._highlight
        self.selection.version = str(self.version)
        with tools:
            self._tools(found, self.chart)
        self.chart.on("area", self._on_area)

    def _tools(self, found: DataMap, chart: MapChart) -> None:
        names = colourings(found)
        colour = ui.select(dict(names), value="class", label="Colour by")
        colour.props("outlined dense options-dense").classes("gh-select gh-map-field")
        colour.on_value_change(lambda event: chart.show(colouring=event.value))
        by_words = {words: each for each, words in _PLANES.items()}
        shown = [_PLANES[each] for each in found.kept]
        self.planes = _toggle(shown, shown[-1], "Layout")
        self.planes.on_value_change(lambda event: chart.show(plane=by_words[event.value]))
        modes = _toggle(list(_MODES.values()), "Lasso", "What dragging does")
        by_name = {words: each for each, words in _MODES.items()}
        modes.on_value_change(lambda event: chart.use("mode", by_name[event.value]))
        _icon_button("Zoom in", "zoom_in", partial(chart.use, "zoom", 0.6))
        _icon_button("Zoom out", "zoom_out", partial(chart.use, "zoom", 1 / 0.6))
        _icon_button("Whole map", "zoom_out_map", partial(chart.use, "whole"))

    def _options(self, plane: str) -> dict[str, Any]:
        assert self.found is not None
        names = colourings(self.found)
        return {
            "points": relative(f"/map-points/{quote(self.name)}"),
            "images": relative(f"/map-image/POSITION/{quote(self.name)}"),
            "version": str(self.version),
            "count": len(self.found),
            "planes": list(self.found.kept),
            "plane": plane,
            "looks": map_looks(self.found),
            "colouring": "class",
            "ramp": list(RAMP),
            "values": {"confidence": names["confidence"], "unusual": names["unusual"]},
            "classes": list(self.found.class_names),
        }

    async def _on_area(self, event: GenericEventArguments) -> None:
        assert self.found is not None and self.selection is not None
        try:
            await self.selection.show(rows_of_bits(self.found, event.args))
        except GlasshouseError as error:
            ui.notify(str(error), type="negative")

    def _highlight(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        assert self.found is not None and self.chart is not None
        self.chart.use("highlight", bits_of_rows(self.found, rows))


def _toggle(words: list[str], value: str, name: str) -> ui.toggle:
    toggle = ui.toggle(words, value=value).props("no-caps dense unelevated role=group")
    toggle.props["aria-label"] = name
    return toggle


def _icon_button(words: str, icon: str, act: Callable[[], object]) -> Element:
    element = button("", icon).on_click(act)
    element.props["aria-label"] = words
    return element.tooltip(words)
