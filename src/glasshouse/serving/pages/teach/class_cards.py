"""The classes of a data set as cards: their names, their images, and the ways to add more."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.upload_files import FileUpload
from nicegui.events import GenericEventArguments, MultiUploadEventArguments

from glasshouse.errors import GlasshouseError
from glasshouse.serving.body_limits import MOST_BODY_BYTES, MOST_FILES
from glasshouse.serving.pages.parts import box, button, image, in_thread, text
from glasshouse.serving.taught_sets import (
    MOST_FILE_BYTES,
    Added,
    add_class,
    add_images,
    classes_of,
    remove_class,
    remove_image,
    rename_class,
)
from glasshouse.wording import pluralize

_SHOWN, _REASONS_SHOWN = 60, 6

# The browser itself takes the name out of the field: however late the answer is, the next name is
# typed into an empty field.
_TAKE_NAME = """(event) => {
    const field = event.target.closest('.gh-add-class').querySelector('input');
    const name = field.value;
    field.value = '';
    field.dispatchEvent(new Event('input'));
    emit(name);
}"""


class ClassCards:
    """All classes of one data set; on_change: called after every change of classes or images."""

    def __init__(self, folder: Path, on_change: Callable[[], None]) -> None:
        self.folder: Path = folder
        self.on_change: Callable[[], None] = on_change
        self._cards: dict[str, ClassCard] = {}
        with box("gh-classes"):
            self._place: Element = box("gh-all-classes")
            # It outlives the cards: whoever is typing the next name keeps what they typed.
            self._adder = _Adder(self)
        self.show()

    def show(self) -> None:
        """Draw every card anew."""
        self._place.clear()
        with self._place:
            names = classes_of(self.folder)
            self._cards = {name: ClassCard(self, name) for name in names}
        self._adder.show(is_first=not names)
        self.on_change()

    async def add(self, class_name: str, files: list[tuple[str, bytes]]) -> None:
        """Add files to a class, and show what became of them."""
        with self._place:  # the card that took the files may be drawn anew meanwhile
            added = await in_thread(add_images, self.folder, class_name, files)
        card = self._cards.get(class_name)
        if card is not None:
            card.show(added)
            self.on_change()


class _Adder:
    """Where the name of a new class is typed."""

    def __init__(self, cards: ClassCards) -> None:
        self._cards = cards
        with box("gh-panel gh-class-card gh-add-class", "section"):
            self._title = text("", "h2")
            with box("gh-row"):
                self._field = ui.input(placeholder="for example: cat")
                self._field.classes("gh-input gh-entry")
                self._field.props('outlined dense maxlength=60 aria-label="Name of a new class"')
                self._field.on("keydown.enter", self._add, js_handler=_TAKE_NAME)
                self._button = button("Add class", "add")
                self._button.on("click", self._add, js_handler=_TAKE_NAME)
            self._problem = text("", "p", "gh-bad gh-problem").props("role=alert")

    def show(self, *, is_first: bool) -> None:
        """Ask for the first class, or for another one."""
        self._title.text = "Begin with the name of a class" if is_first else "Another class"
        self._button.classes(**{"add" if is_first else "remove": "gh-main"})

    def _add(self, event: GenericEventArguments) -> None:
        name = event.args if isinstance(event.args, str) else ""
        self._problem.text = ""
        try:
            add_class(self._cards.folder, name)
        except GlasshouseError as error:
            self._problem.text = str(error)
            return
        self._cards.show()


class ClassCard:
    """One class: its name, a place to drop files, and its images."""

    def __init__(self, cards: ClassCards, name: str) -> None:
        self._cards, self._name = cards, name
        with box("gh-panel gh-class-card", "section") as card:
            card.props["aria-label"] = f"Class {name}"
            self._head()
            self._ways_in()
            self._said: Element = box("gh-message").props("aria-live=polite")
            self._images: Element = box("gh-taught", "ul")
        self.show()

    def show(self, added: Added | None = None) -> None:
        """The images that there are now, the newest first, and what the last upload led to."""
        files = classes_of(self._cards.folder).get(self._name, [])
        files = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        self._count.text = pluralize(len(files), "image")
        self._images.clear()
        with self._images:
            for path in files[:_SHOWN]:
                self._image(path)
            if len(files) > _SHOWN:
                text(f"and {len(files) - _SHOWN:,} more", "li", "gh-quiet")
        self._said.clear()
        if added is not None and added.refused:
            with self._said:
                self._refusals(added)

    def _head(self) -> None:
        with box("gh-row gh-class-head"):
            field = ui.input(value=self._name).classes("gh-input gh-class-name")
            field.props["aria-label"] = f"Name of class {self._name}"
            field.props("outlined dense maxlength=60")
            self._count = text("", "span", "gh-quiet")
            remove = ui.button(icon="delete_outline", color=None).props("flat round dense")
            remove.props["aria-label"] = f"Remove class {self._name}"
            remove.classes("gh-theme").on_click(self._ask_to_remove)
        self._problem = text("", "p", "gh-bad gh-problem").props("role=alert")
        field.on("keydown.enter", lambda: self._rename(field))
        field.on("blur", lambda: self._rename(field))

    def _rename(self, field: ui.input) -> None:
        wanted = str(field.value)
        if wanted == self._name or field.is_deleted:
            return
        try:
            after = rename_class(self._cards.folder, self._name, wanted)
        except GlasshouseError as error:
            self._problem.text = str(error)
            field.value = self._name
            return
        if after != self._name:
            self._cards.show()

    def _ask_to_remove(self) -> None:
        files = classes_of(self._cards.folder).get(self._name, [])

        def remove() -> None:
            remove_class(self._cards.folder, self._name)
            dialog.close()
            self._cards.show()

        with ui.dialog() as dialog, ui.card().classes("gh-card gh-small-card"):
            text(f"Remove '{self._name}'?", "h2")
            text(
                f"{pluralize(len(files), 'image')} will be deleted from {self._cards.folder}.", "p"
            )
            with box("gh-row gh-choices"):
                button("Remove").classes("gh-danger").on_click(remove)
                button("Keep").on_click(dialog.close)
        if files:
            dialog.open()
        else:
            remove()

    def _ways_in(self) -> None:
        async def take(event: MultiUploadEventArguments) -> None:
            event.sender.reset()  # type: ignore[attr-defined]
            files = [(file.name, await _content(file)) for file in event.files]
            await self._cards.add(self._name, files)

        most = (
            f"a file has at most {MOST_FILE_BYTES >> 20} MB, and one upload at most "
            f"{MOST_BODY_BYTES >> 20} MB and {MOST_FILES:,} files"
        )

        def refuse() -> None:
            self.show(Added(0, (f"Some files were refused: {most}.",)))

        def fail(event: GenericEventArguments) -> None:
            event.sender.reset()  # type: ignore[attr-defined]
            self.show(Added(0, (f"The upload was refused or broke off: {most}.",)))

        drop = ui.upload(
            label="Drop images, or choose with +",
            multiple=True,
            auto_upload=True,
            max_file_size=MOST_FILE_BYTES,
            # Of the files alone: the form around them needs some bytes for each.
            max_total_size=MOST_BODY_BYTES - (1 << 20),
            max_files=MOST_FILES,
            on_multi_upload=take,
            on_rejected=refuse,
        )
        drop.on("failed", fail, args=[])
        drop.classes("gh-drop").props('flat bordered accept="image/*"')
        record = button("Hold to record from the webcam", "videocam").classes("gh-record")
        record.props["data-record"] = self._name

    def _image(self, path: Path) -> None:
        with box("", "li"):
            folder = self._cards.folder.name
            image(
                f"/teach/images/{folder}/{quote(self._name, safe='')}/{quote(path.name)}", path.name
            )
            remove = text("×", "button", "gh-remove").props("type=button")
            remove.props["aria-label"] = f"Remove {path.name}"
            remove.on("click", partial(self._remove, path.name))

    def _remove(self, file: str) -> None:
        remove_image(self._cards.folder, self._name, file)
        self.show()
        self._cards.on_change()

    def _refusals(self, added: Added) -> None:
        shown = added.refused[:_REASONS_SHOWN]
        more = len(added.refused) - len(shown)
        with box("gh-refused", "ul").props("role=alert"):
            for reason in (*shown, *([f"and {more:,} more"] if more else [])):
                text(reason, "li", "gh-bad")


async def _content(file: FileUpload) -> bytes:
    """The bytes of a file, and no more of them than show that it is too large."""
    if file.size() > MOST_FILE_BYTES:
        return b"\0" * (MOST_FILE_BYTES + 1)
    data: bytes = await file.read()
    return data
