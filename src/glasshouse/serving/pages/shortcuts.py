"""The part of a run's page on shortcuts: the verdict, or how to get it."""

import shlex
from collections.abc import Callable
from urllib.parse import quote

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import button, in_thread, link_button, panel, text
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench

_TITLE, _REMARK = "Does it use a shortcut?", "measured on validation images, not on the test split"
_WORKING = "Testing: this takes up to a few minutes, and goes on when this page is closed."
_find: Callable[..., object] = deferred(
    "glasshouse.workflow.use.run_shortcuts", "find_run_shortcuts"
)


def show_shortcuts(workbench: Workbench, name: str) -> None:
    """The verdict of `glasshouse shortcuts`, or a button that asks for it."""
    folder = run_folder(workbench, name)
    with panel(_TITLE, _REMARK):
        words = text("", "p")
        page = link_button("What was tested", f"/shortcuts/{quote(name)}", icon="description")
        page.props("target=_blank")
        start = button("Test for shortcuts", "search")

    def update() -> None:
        verdict = runs.read_run(folder).shortcut_verdict
        command = f"glasshouse shortcuts {shlex.quote(str(folder))}"
        words.text = verdict or (
            "Not tested yet: a tag in a corner, a border, a watermark, a tint, compression or the "
            f"background may give the class away. On the command line: {command}"
        )
        page.set_visibility((folder / runs.SHORTCUTS_PAGE).is_file())
        start.set_visibility(not verdict and not workbench.read_only)

    async def test() -> None:
        try:
            # A button that is not shown can still be pressed by a program.
            workbench.require_changes()
            start.set_visibility(False)
            words.text = _WORKING
            await in_thread(_find, folder)
        except GlasshouseError as error:
            ui.notify(str(error), type="negative")
        update()

    start.on_click(test)
    update()
