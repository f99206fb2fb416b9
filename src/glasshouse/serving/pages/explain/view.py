"""The contents of the page Explain: models, an image, and the results; it needs torch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.events import UploadEventArguments

from glasshouse.data.images import ImageSet
from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.metrics import worst_mistakes
from glasshouse.explanation.draw.overlay import PALETTES
from glasshouse.models.predict import load_predictions
from glasshouse.report.encoding import image_uri
from glasshouse.runs import folder as runs
from glasshouse.serving.explainer import (
    ExplainedPhoto,
    Explainer,
    explainer_of,
    photo_of,
)
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.pages.model_picker import Chooser
from glasshouse.serving.pages.parts import (
    box,
    button,
    empty_state,
    heading,
    link_button,
    panel,
    text,
)
from glasshouse.serving.photos import Photo, read_photo
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice, model_names, run_of_choice

_LARGEST_UPLOAD = 64 << 20
_MISTAKES_SHOWN, _OTHERS_SHOWN = 6, 10


@dataclass
class _View:
    """What one viewer sees.

    turn counts requests, so that a late result is dropped; shuffles counts random selections.
    """

    explainer: Explainer
    models: list[ModelChoice]
    photo: Photo | None = None
    class_name: str | None = None
    method: str = "grad-cam"
    colours: str = PALETTES[0]
    turn: int = 0
    shuffles: int = 0
    columns: list[Column] = field(default_factory=list)

    def is_at(self, turn: int, place: Element) -> bool:
        """Whether a result is still wanted: no newer request, and the viewer is still there."""
        return turn == self.turn and not place.is_deleted


async def fill(workbench: Workbench, request: Request) -> None:
    """Choose models and an image; below them, the explanation."""
    heading("Explain", "Which parts of an image support a prediction, and how far to trust that.")
    names = await asyncio.to_thread(model_names, workbench.runs)
    if not names:
        empty_state(
            "No model to explain yet",
            f"{workbench.runs} has no finished run. Train one, here or on the command line:",
            icon="visibility",
            command=f"glasshouse train digits --out {workbench.runs / 'digits-1'}",
        )
        return
    asked = request.query_params.get("model", "")
    view = _View(explainer_of(workbench), [ModelChoice(asked if asked in names else names[0])])
    with box("gh-explain"):
        controls = box()
        place = box("gh-answers").props("aria-live=polite")
    show = partial(_show, view, place)
    with controls:
        strip, chooser = _controls(view, names, show)
    with place:
        _nothing_yet()
    await ui.context.client.connected()
    await _fill_strip(view, strip, show, request.query_params.get("image", ""))
    await chooser.offer_nets_at_hand()


def _controls(
    view: _View, names: list[str], show: Callable[[], Awaitable[None]]
) -> tuple[Element, Chooser]:
    """The models and the image; returns the place of the test images and the model fields."""

    async def choose() -> None:
        if not chooser.chosen:
            return
        before, view.models = view.models, chooser.chosen
        if before[0] != view.models[0]:
            view.class_name = None
        if view.explainer.image_model(before) != view.explainer.image_model(view.models):
            await _fill_strip(view, strip, show, "")
        await show()

    with panel(), box("gh-choose"):
        with box("gh-stack"):
            folder = view.explainer.workbench.runs
            chooser = Chooser(folder, names, view.models[0], choose)
            _drop(view, show)
        strip = box("gh-strip")
    return strip, chooser


def _drop(view: _View, show: Callable[[], Awaitable[None]]) -> None:
    async def take(event: UploadEventArguments) -> None:
        event.sender.reset()  # type: ignore[attr-defined]
        data = await event.file.read()
        try:
            view.photo = await asyncio.to_thread(read_photo, data, event.file.name)
        except GlasshouseError as error:
            refused(str(error))
            return
        view.class_name = None
        message.clear()
        await show()

    def refused(words: str) -> None:
        message.clear()
        with message:
            text(words, "p", "gh-bad").props("role=alert")

    drop = ui.upload(
        label="Drop a photo here, or choose one with +",
        auto_upload=True,
        max_file_size=_LARGEST_UPLOAD,
        on_upload=take,
        on_rejected=lambda: refused(f"The file is too large: at most {_LARGEST_UPLOAD >> 20} MB."),
    )
    drop.classes("gh-drop").props("flat bordered")
    message = box("gh-message")


async def _fill_strip(
    view: _View, strip: Element, show: Callable[[], Awaitable[None]], wanted: str
) -> None:
    """Test images of the first run among the models: its worst mistakes, and a random selection."""
    strip.clear()
    with strip:
        text("Loading the test images …", "p", "gh-quiet")
    model = view.explainer.image_model(view.models)
    try:
        images = await asyncio.to_thread(view.explainer.test_images, model)
        mistakes = await asyncio.to_thread(_worst_mistakes, view.explainer.workbench, model, images)
    except GlasshouseError as error:
        if not strip.is_deleted:
            strip.clear()
            with strip:
                _no_images(view, error)
        return
    if strip.is_deleted or model != view.explainer.image_model(view.models):
        return
    strip.clear()
    with strip:
        _strip_row("Its worst mistakes", images, mistakes, view, show)
        others = box()
        button("Other images", "shuffle").on_click(partial(_others, others, images, view, show))
    _others(others, images, view, show)
    rows = np.flatnonzero(images.ids == wanted)
    if len(rows):
        view.photo = photo_of(images, int(rows[0]))
        await show()


def _no_images(view: _View, error: GlasshouseError) -> None:
    """Why there are no test images to choose from, and what is still possible."""
    folder = run_of_choice(view.explainer.workbench.runs, view.explainer.image_model(view.models))
    if folder is None:
        text("Drop a photo", "h3")
        text(
            f"{error}. For a run that was trained here, this panel offers its test images, its "
            "worst mistakes and its epochs.",
            "p",
            "gh-quiet",
        )
        link_button("Train a classifier", "/train", icon="play_arrow")
        return
    text("Its test images cannot be read", "h3")
    text(f"{error}. Uploaded photos can still be explained.", "p", "gh-quiet")


def _others(
    place: Element, images: ImageSet, view: _View, show: Callable[[], Awaitable[None]]
) -> None:
    view.shuffles += 1
    rows = np.random.default_rng(view.shuffles).permutation(len(images))[:_OTHERS_SHOWN]
    place.clear()
    with place:
        _strip_row("Test images", images, rows.tolist(), view, show)


def _strip_row(
    title: str,
    images: ImageSet,
    rows: list[int],
    view: _View,
    show: Callable[[], Awaitable[None]],
) -> None:
    async def choose(row: int) -> None:
        view.photo, view.class_name = photo_of(images, row), None
        await show()

    if not rows:
        return
    text(title, "h3")
    with box("gh-thumbs"):
        for row in rows:
            label = images.class_names[int(images.labels[row])]
            words = f"Explain {images.ids[row]}, an image of {label}"
            with box("gh-thumb", "button").on("click", partial(choose, row)) as thumb:
                thumb.props["aria-label"] = words
                thumb.props["title"] = f"{label} · {images.ids[row]}"
                image = ui.element("img").classes("gh-pixels" if images.width < 100 else "")
                image.props.update({"src": image_uri(images.pixels[row]), "alt": ""})


def _worst_mistakes(workbench: Workbench, model: ModelChoice, images: ImageSet) -> list[int]:
    """Rows of the run's most confident mistakes, the most confident first."""
    folder = run_of_choice(workbench.runs, model)
    if folder is None or not (folder / runs.PREDICTIONS).is_file():
        return []
    worst = worst_mistakes(load_predictions(folder / runs.PREDICTIONS), _MISTAKES_SHOWN)
    row_of = {name: row for row, name in enumerate(images.ids.tolist())}
    return [row_of[mistake.id] for mistake in worst if mistake.id in row_of]


def _nothing_yet() -> None:
    empty_state(
        "Drop a photo or choose a test image",
        "You see the prediction, the pixels and regions that support it, the activations of each "
        "layer, and whether the maps can be trusted.",
        icon="visibility",
    )


async def _show(view: _View, place: Element) -> None:
    """Explain the image with each model, then check the maps, both in a thread."""
    if view.photo is None:
        return
    view.turn += 1
    turn = view.turn
    place.clear()
    with place, box("gh-waiting").props("role=status"):
        ui.spinner(size="28px").props("aria-hidden=true")
        text("Explaining …")
    try:
        answers = [
            await asyncio.to_thread(_explained, view.explainer, model, view.photo, view.class_name)
            for model in view.models
        ]
    except GlasshouseError as error:
        if view.is_at(turn, place):
            place.clear()
            with place:
                empty_state("This image cannot be explained", str(error), icon="report_problem")
        return
    if not view.is_at(turn, place):
        return
    place.clear()
    with place:
        _looks(view, answers[0], place)
        with box("gh-columns" if len(answers) > 1 else "gh-single"):
            view.columns = [Column(answer, view.method, view.colours) for answer in answers]
    for column in view.columns:
        column.on_method = partial(_choose_method, view)
        column.on_more = partial(_add_more, view, turn, column)
    # On a phone the result is below the visible part of the page.
    place.client.run_javascript(
        f"const place = document.getElementById('{place.html_id}');"
        "if (place.getBoundingClientRect().top > innerHeight * 0.6)"
        "  place.scrollIntoView({behavior: 'smooth'})"
    )
    await _check(view, turn)


def _explained(
    explainer: Explainer, model: ModelChoice, photo: Photo, class_name: str | None
) -> ExplainedPhoto:
    """For the chosen class, or the predicted one where the model does not know that class."""
    knows = class_name in explainer.classifier(model).class_names
    return explainer.explain(model, photo, class_name if knows else None)


def _looks(view: _View, answer: ExplainedPhoto, place: Element) -> None:
    """What applies to both models: the class, the opacity of the maps, their colours."""
    names = answer.page.class_names
    explained = int(answer.page.explanations[0].targets[0])

    async def choose_class(name: str) -> None:
        view.class_name = name
        await _show(view, place)

    def choose_colours(name: str) -> None:
        view.colours = name
        for column in view.columns:
            column.show_colours(name)

    with panel(classes="gh-looks"), box("gh-row"):
        ui.select(
            list(names),
            value=names[explained],
            label="Why",
            with_input=len(names) > 20,
            on_change=lambda event: choose_class(event.value),
        ).props("outlined dense options-dense").classes("gh-select gh-class")
        with box("gh-opacity"):
            text("Map over photo", "span", "gh-quiet")
            slider = ui.slider(min=0, max=100, value=60).props('aria-label="Opacity of the maps"')
            slider.on(
                "update:model-value",
                js_handler="(value) => document.documentElement.style"
                ".setProperty('--map-opacity', value / 100)",
            )
        ui.toggle(
            list(PALETTES), value=view.colours, on_change=lambda e: choose_colours(e.value)
        ).props("no-caps dense unelevated")


def _choose_method(view: _View, method: str) -> None:
    view.method = method
    for column in view.columns:
        column.show_method(method)


async def _add_more(view: _View, turn: int, column: Column) -> None:
    found = await asyncio.to_thread(view.explainer.with_more, column.answer.key)
    if found is not None and view.is_at(turn, column.words):
        column.show_more(found)


async def _check(view: _View, turn: int) -> None:
    for column in list(view.columns):
        checked = await asyncio.to_thread(view.explainer.checked, column.answer.key)
        if not view.is_at(turn, column.words):
            return
        if checked is not None:
            column.show_checks(checked)
