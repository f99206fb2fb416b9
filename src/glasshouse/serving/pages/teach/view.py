"""The contents of the page Teach: a data set, its classes, the training, and the trial."""

from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.serving.pages.parts import (
    box,
    button,
    connected,
    heading,
    link,
    panel,
    relative,
    text,
)
from glasshouse.serving.pages.teach.class_cards import ClassCards
from glasshouse.serving.pages.teach.lesson_panel import LessonPanel
from glasshouse.serving.pages.teach.trial_panel import TrialPanel
from glasshouse.serving.taught_sets import free_set_name, set_folder, set_names
from glasshouse.serving.workbench import Workbench

_SETS_OFFERED = 8


async def fill(workbench: Workbench, request: Request) -> None:
    """The data set that the address names, or a new one."""
    heading("Teach", "Drop images into classes, train on them in seconds, and try the result.")
    names = set_names(workbench)
    name = request.query_params.get("set") or (names[0] if names else free_set_name(workbench))
    folder = set_folder(workbench, name)
    ui.add_head_html(f'<script src="{relative("/assets/webcam.js")}"></script>')
    _sets(workbench, name, names)
    with box("gh-teach"):
        left = box("gh-stack")
        with box("gh-stack"):
            lesson = LessonPanel(workbench, folder)
            trial = TrialPanel(workbench)
    with left:
        cards = ClassCards(folder, lesson.on_images)
    lesson.on_trained = trial.use
    trial.on_frame = cards.add
    await connected()
    trial.listen()
    await lesson.begin()


def _sets(workbench: Workbench, name: str, names: list[str]) -> None:
    """The data sets that there are, and a field to begin another."""

    def begin() -> None:
        try:
            set_folder(workbench, str(field.value).strip())
        except GlasshouseError as error:
            problem.text = str(error)
            return
        ui.navigate.to(f"/teach?{urlencode({'set': str(field.value).strip()})}")

    with panel(classes="gh-source"):
        with box("gh-row"):
            text("Data set", "span", "gh-label")
            for other in dict.fromkeys([name, *names[:_SETS_OFFERED]]):
                pill = link(other, f"/teach?{urlencode({'set': other})}", "gh-pill")
                pill.props("aria-current=page" if other == name else "")
            with box("gh-row gh-push gh-new-set"):
                field = ui.input(value=free_set_name(workbench, name)).classes("gh-input gh-entry")
                field.props('outlined dense maxlength=60 aria-label="Name of a new data set"')
                field.on("keydown.enter", begin)
                button("New data set", "create_new_folder").on_click(begin)
        problem = text("", "p", "gh-bad gh-problem").props("role=alert")
