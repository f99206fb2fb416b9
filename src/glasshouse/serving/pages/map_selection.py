"""What is selected on a map: its images, its accuracy, a name for it, and the groups with names."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.data_map import DataMap, MapGroup, group_of
from glasshouse.serving.pages.parts import box, button, image, in_thread, name_field, panel, text
from glasshouse.serving.run_maps import require_map_images, rows_where
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import percentage, pluralize
from glasshouse.workflow.use.map_groups import name_group, named_groups, remove_group
from glasshouse.workflow.use.run_map import write_map_texts

Rows = NDArray[np.int64]
_STEP = 48
_ANY = -1
_NOTHING = "Nothing is selected. Draw around points on the map, or select by class or name below."


class MapSelection:
    """The panels below a map; on_rows: told the rows that were selected here and not on the map."""

    def __init__(self, workbench: Workbench, name: str, folder: Path, found: DataMap) -> None:
        self.workbench, self.name, self.folder, self.found = workbench, name, folder, found
        self.rows: Rows = np.empty(0, np.int64)
        self.version = ""
        self.on_rows: Callable[[Rows], None] = lambda rows: None
        with panel("Selection"):
            self.words = text(_NOTHING, "p", "gh-verdict").props("role=status")
            self._by_words()
            self.keep_row = box("gh-row gh-map-keep")
            self._keep()
            self.images = box()
        with panel("Named groups", "kept with the run, measured on the images of this map"):
            self.groups = box()
        self._list()

    async def show(self, rows: Rows) -> None:
        """Show the images of these rows, and how they are answered."""
        self.rows = rows
        self.keep_row.set_visibility(len(rows) > 0 and not self.workbench.read_only)
        self.images.clear()
        if not len(rows):
            self.words.text = _NOTHING
            return
        self.words.text = group_of(self.found, "", rows).words
        try:
            await in_thread(require_map_images, self.workbench, self.folder, self.found)
        except GlasshouseError as error:
            with self.images:
                text(f"Cannot show the images: {error}", "p", "gh-bad gh-problem")
            return
        if rows is self.rows:  # otherwise another selection came while the images were read
            with self.images:
                self._gallery(rows)

    def _gallery(self, rows: Rows) -> None:
        place = box("gh-gallery", "ul")
        more = button("", "expand_more")
        shown = 0

        def show_more() -> None:
            nonlocal shown
            with place:
                for row in rows[shown : shown + _STEP].tolist():
                    self._figure(row)
            shown = min(shown + _STEP, len(rows))
            more.text = f"Show more of {len(rows):,}"
            more.set_visibility(shown < len(rows))

        more.on_click(show_more)
        show_more()

    def _figure(self, row: int) -> None:
        found = self.found
        label, answer = (found.class_names[int(of[row])] for of in (found.labels, found.predicted))
        identity = str(found.ids[row])
        with box("", "li"):
            address = f"/map-image/{row}/{quote(self.name)}?{self.version}"
            image(address, identity, "gh-pixels")
            text(label, "span", "gh-right" if label == answer else "")
            if label != answer:
                text(f" → {answer}", "span", "gh-wrong")
            text(f" {percentage(float(found.confidence[row]), 0)}", "span", "gh-quiet")
            box("", "br")
            text(identity, "span", "gh-quiet gh-id").props["title"] = identity

    def _by_words(self) -> None:
        """Select without a pointer: by class, answer, mistake and text in the name."""
        classes: dict[int, str] = {_ANY: "any class", **dict(enumerate(self.found.class_names))}
        with box("gh-row gh-map-find"):
            label = _select(classes, "Class")
            answer = _select(classes, "Answer")
            words = ui.input(placeholder="part of a file name").props("outlined dense")
            words.classes("gh-input gh-map-field").props["aria-label"] = "Part of a file name"
            mistakes = ui.checkbox("Only mistakes")
            find = button("Select", "search")
            clear = button("Clear", "close")

        async def select() -> None:
            rows = rows_where(
                self.found,
                label=None if label.value == _ANY else int(label.value),
                answer=None if answer.value == _ANY else int(answer.value),
                mistakes=bool(mistakes.value),
                words=str(words.value or "").strip(),
            )
            await self._choose(rows)
            if not len(rows):
                self.words.text = "No image of this map is like that."

        find.on_click(select)
        words.on("keydown.enter", select)
        clear.on_click(lambda: self._choose(np.empty(0, np.int64)))

    async def _choose(self, rows: Rows) -> None:
        self.on_rows(rows)
        await self.show(rows)

    def _keep(self) -> None:
        with self.keep_row:
            field = ui.input().props("outlined dense maxlength=60").classes("gh-input gh-map-field")
            name_field("Name of the group", field)
            keep = button("Keep as a group", "bookmark_add", main=True)

        async def add() -> None:
            ids, name = self.found.ids[self.rows].tolist(), str(field.value or "")

            def act() -> None:
                name_group(self.folder, name, ids)
                field.value = ""

            await self._change(act)

        keep.on_click(add)
        field.on("keydown.enter", add)
        self.keep_row.set_visibility(False)

    async def _change(self, act: Callable[[], None]) -> None:
        """Change the groups, and then the page of the map."""
        try:
            self.workbench.require_changes()
            act()
            self._list()
            # The button that was pressed may be gone, and a page is found through an element.
            with self.groups:
                await in_thread(write_map_texts, self.folder, self.found)
        except GlasshouseError as error:
            ui.notify(str(error)[:1].upper() + str(error)[1:], type="negative")

    def _list(self) -> None:
        self.groups.clear()
        with self.groups:
            try:
                groups = named_groups(self.folder, self.found)
            except GlasshouseError as error:
                text(f"{error}; delete it to begin again", "p", "gh-bad gh-problem")
                return
            if not groups:
                text("None yet: select images and give them a name.", "p", "gh-quiet")
                return
            with box("gh-map-groups", "ul"):
                for group in groups:
                    self._group(group)

    def _group(self, group: MapGroup) -> None:
        async def look() -> None:
            await self._choose(group.rows)

        async def forget() -> None:
            await self._change(lambda: remove_group(self.folder, group.name))

        with box("gh-map-group", "li"):
            with box("gh-row"):
                text(group.name, "h3")
                text(pluralize(len(group.rows), "image"), "span", "gh-quiet")
                see = button("Show", "visibility").on_click(look).classes("gh-push")
                see.props["aria-label"] = f"Show the group {group.name}"
                if not self.workbench.read_only:
                    remove = button("Remove", "close").on_click(forget)
                    remove.props["aria-label"] = f"Remove the group {group.name}"
            text(group.words, "p")


def _select(options: dict[int, str], name: str) -> ui.select:
    field = ui.select(options, value=_ANY, label=name)
    return field.props("outlined dense options-dense").classes("gh-select gh-map-field")
