"""The parts of a run's page that answer a question on request: the verdict, or how to get it."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import button, in_thread, link_button, panel, text
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench

_REMARK = "measured on validation images, not on the test split"
_WORKING = "Testing: this takes up to a few minutes, and goes on when this page is closed."

_NO_MAP = (
    "No map yet: every image as a point, near those that the network sees nearly the same in, to "
    "find groups of mistakes and labels that look wrong."
)


@dataclass(frozen=True)
class _Question:
    """What is asked of a run, and how.

    command: its name, also in the address of its page. file: the page in the run folder. open: what
    is said before anybody asked.
    """

    title: str
    command: str
    file: str
    verdict: Callable[[runs.Run], str]
    find: Callable[..., object]
    ask: str
    details: str
    open: str


_QUESTIONS = (
    _Question(
        title="Does it use a shortcut?",
        command="shortcuts",
        file=runs.SHORTCUTS_PAGE,
        verdict=lambda run: run.shortcut_verdict,
        find=deferred("glasshouse.workflow.use.run_shortcuts", "find_run_shortcuts"),
        ask="Test for shortcuts",
        details="What was tested",
        open="Not tested yet: a tag in a corner, a border, a watermark, a tint, compression or the "
        "background may give the class away.",
    ),
    _Question(
        title="Does it fail on a group of images?",
        command="groups",
        file=runs.GROUPS_PAGE,
        verdict=lambda run: run.group_verdict,
        find=deferred("glasshouse.workflow.use.run_groups", "find_run_groups"),
        ask="Look for groups",
        details="The groups, with images",
        open="Not looked at yet: similar images may be misclassified more often than the rest of "
        "a class.",
    ),
)


def show_verdicts(workbench: Workbench, name: str) -> None:
    """For each question its verdict, or a button that asks for it; and the way to the map."""
    for question in _QUESTIONS:
        _show(workbench, name, question)
    words = runs.read_run(run_folder(workbench, name)).map_words
    with panel("What do the images look like to it?", "validation images, unless chosen otherwise"):
        text(words or _NO_MAP, "p")
        link_button("Open the map", f"/data-map/{quote(name)}", icon="scatter_plot")


def _show(workbench: Workbench, name: str, question: _Question) -> None:
    folder = run_folder(workbench, name)
    with panel(question.title, _REMARK):
        words = text("", "p")
        address = f"/{question.command}/{quote(name)}"
        page = link_button(question.details, address, icon="description")
        page.props("target=_blank")
        start = button(question.ask, "search")

    def update() -> None:
        verdict = question.verdict(runs.read_run(folder))
        words.text = verdict or f"{question.open} On the command line: {_command(question, folder)}"
        page.set_visibility((folder / question.file).is_file())
        start.set_visibility(not verdict and not workbench.read_only)

    async def test() -> None:
        try:
            # A button that is not shown can still be pressed by a program.
            workbench.require_changes()
            start.set_visibility(False)
            words.text = _WORKING
            await in_thread(question.find, folder)
        except GlasshouseError as error:
            ui.notify(str(error), type="negative")
        finally:
            update()  # whatever happened: the page would else say forever that it is testing

    start.on_click(test)
    update()


def _command(question: _Question, folder: Path) -> str:
    return f"glasshouse {question.command} {shlex.quote(str(folder))}"
