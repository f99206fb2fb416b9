"""A dialog that lists the folders of this machine, for choosing a source."""

from collections.abc import Callable, Mapping
from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from glasshouse.errors import UsageError
from glasshouse.serving.folder_browser import BrowsedFolder, browse, browse_roots
from glasshouse.serving.pages.parts import box, button, in_thread, text
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import pluralize


def folder_picker(
    workbench: Workbench, start: Callable[[], str], choose: Callable[[str], object]
) -> ui.button:
    """A button that opens the dialog; start: where to begin, choose: receives the chosen path."""
    dialog = ui.dialog().classes("gh-dialog")
    with dialog, ui.card().classes("gh-card"):
        with box("gh-row gh-card-head"):
            text("Choose a folder or table", "h2")
            close = ui.button(icon="close", color=None, on_click=dialog.close)
            close.props('flat round dense aria-label="Close"').classes("gh-push gh-theme")
        listed = box("gh-stack")

    def use(path: Path) -> None:
        choose(str(path))
        dialog.close()

    async def show(folder: Path) -> None:
        roots = browse_roots(workbench)
        allowed = tuple(roots.values())
        try:
            found = await in_thread(browse, allowed, folder)
        except UsageError:
            # What was typed need not exist: begin where the workbench was started.
            found = await in_thread(browse, allowed, allowed[0])
        listed.clear()
        with listed:
            _places(roots, found, show)
            _entries(found, show, use)

    async def open_dialog() -> None:
        dialog.open()
        await show(Path(start()))

    return button("Browse", "folder_open").on_click(open_dialog)


def _places(
    roots: Mapping[str, Path], found: BrowsedFolder, show: Callable[[Path], object]
) -> None:
    """The roots as shortcuts, and the path of the folder that is shown."""
    with box("gh-row"):
        for name, root in roots.items():
            here = text(name, "button", "gh-pair gh-chip")
            here.props.update({"type": "button", "title": str(root)})
            here.on("click", lambda root=root: show(root))
    text(str(found.path), "code", "gh-path")


def _entries(
    found: BrowsedFolder, show: Callable[[Path], object], use: Callable[[Path], None]
) -> None:
    with box("gh-folders"):
        if found.parent is not None:
            _entry("arrow_upward", "Parent folder", lambda: show(found.path.parent))
        for name in found.folders:
            _entry("folder", name, lambda name=name: show(found.path / name))  # type: ignore[misc]
        for name in found.tables:
            _entry("table_rows", name, lambda name=name: use(found.path / name))  # type: ignore[misc]
    with box("gh-row"):
        counts = (pluralize(len(found.folders), "subfolder"), pluralize(found.file_count, "file"))
        cut = "; only the first entries are listed" if found.is_cut else ""
        text(f"{counts[0]}, {counts[1]}{cut}", "span", "gh-quiet")
        wanted = button("Use this folder", "check", main=True).classes("gh-push")
        wanted.on_click(lambda: use(found.path))


def _entry(icon: str, words: str, act: Callable[[], object]) -> Element:
    with box("gh-folder", "button").props("type=button") as entry:
        ui.icon(icon).props("aria-hidden=true")
        text(words)
    return entry.on("click", act)
