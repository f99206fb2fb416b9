"""The contents of the page Explain: models, an image, and the results; it needs torch."""

import json
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import Request
from nicegui import ui
from nicegui.element import Element
from nicegui.events import UploadEventArguments

from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.explanation.draw.overlay import PALETTES
from glasshouse.explanation.methods import METHODS
from glasshouse.serving.explainer import (
    ExplainedPhoto,
    explainer_of,
)
from glasshouse.serving.pages.explain.address import read_address
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.pages.explain.state import ExplainState
from glasshouse.serving.pages.explain.strip import fill_strip
from glasshouse.serving.pages.model_picker import Chooser
from glasshouse.serving.pages.parts import (
    box,
    connected,
    empty_state,
    heading,
    in_thread,
    panel,
    text,
)
from glasshouse.serving.pages.resembles import show_resemblance
from glasshouse.serving.photos import Photo, photo_store_of, read_photo
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice, model_names

_LARGEST_UPLOAD = 64 << 20


async def fill(workbench: Workbench, request: Request) -> None:
    """Choose models and an image; below them, the explanation."""
    heading("Explain", "Which parts of an image support a prediction, and how far to trust that.")
    names = await in_thread(model_names, workbench.runs)
    if not names:
        empty_state(
            "No model to explain yet",
            f"{workbench.runs} has no finished run. Train one, here or on the command line:",
            icon="visibility",
            command=workbench.first_command,
        )
        return
    asked = read_address(request.query_params, names)
    view = ExplainState(
        explainer_of(workbench),
        list(asked.models),
        class_name=asked.class_name,
        layer=asked.layer,
        method=asked.method if asked.method in METHODS else None,
    )
    with box("gh-explain"):
        controls = box()
        place = box("gh-answers").props("aria-live=polite")
    show = partial(_show, view, place)
    with controls:
        strip, chooser = _controls(view, names, show)
    with place:
        _nothing_yet()
    await connected()
    if asked.photo:
        await _show_upload(view, place, show, asked.photo)
    await fill_strip(view, strip, show, "" if asked.photo else asked.image)
    await chooser.offer_nets_at_hand()


def _controls(
    view: ExplainState, names: list[str], show: Callable[[], Awaitable[None]]
) -> tuple[Element, Chooser]:
    """The models and the image; returns the place of the test images and the model fields."""

    async def choose() -> None:
        if not chooser.chosen:
            return
        before, view.models = view.models, chooser.chosen
        if before[0] != view.models[0]:
            view.class_name = view.layer = None
        if view.explainer.image_model(before) != view.explainer.image_model(view.models):
            await fill_strip(view, strip, show, "")
        await show()

    with panel(), box("gh-choose"):
        with box("gh-stack"):
            folder = view.explainer.workbench.runs
            chooser = Chooser(folder, names, view.models, choose)
            _drop(view, show)
        strip = box("gh-strip")
    return strip, chooser


def _drop(view: ExplainState, show: Callable[[], Awaitable[None]]) -> None:
    async def take(event: UploadEventArguments) -> None:
        event.sender.reset()  # type: ignore[attr-defined]
        data = await event.file.read()
        try:
            view.photo = await in_thread(read_photo, data, event.file.name)
        except GlasshouseError as error:
            refused(str(error))
            return
        # Under an id of its own, so that a reload of the page finds the photo again.
        key = photo_store_of(view.explainer.workbench).keep(event.file.name, data)
        view.asked, view.class_name = {"photo": key}, None
        message.clear()
        if view.photo.warning:
            refused(view.photo.warning)
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


async def _show_upload(
    view: ExplainState, place: Element, show: Callable[[], Awaitable[None]], key: str
) -> None:
    """Explain an earlier upload again, where it is still kept."""
    view.photo = await in_thread(photo_store_of(view.explainer.workbench).photo, key)
    if view.photo is not None:
        view.asked = {"photo": key}
        await show()
    else:
        place.clear()
        with place:
            empty_state(
                "This photo is no longer kept",
                "The workbench keeps the last photos until it is stopped. Drop the photo again.",
                icon="visibility",
            )


def _nothing_yet() -> None:
    empty_state(
        "Drop a photo or choose a test image",
        "You see the prediction, the pixels and regions that support it, the activations of each "
        "layer, and whether the maps can be trusted.",
        icon="visibility",
    )


async def _show(view: ExplainState, place: Element) -> None:
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
        with place:  # the field that was changed is gone
            answers = [
                await in_thread(_explained, view, model, view.photo) for model in view.models
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
    _remember(view, place)
    with place:
        _looks(view, answers[0], place)
        with box("gh-columns" if len(answers) > 1 else "gh-single"):
            # Side by side, both show the same map.
            method = view.method or (None if len(answers) == 1 else "grad-cam")
            view.columns = [Column(answer, method, view.colours) for answer in answers]
    for column in view.columns:
        column.on_method = partial(_choose_method, view, place)
        column.on_more = partial(_add_more, view, turn, column)
    # On a phone the result is below the visible part of the page.
    place.client.run_javascript(
        f"const place = document.getElementById('{place.html_id}');"
        "if (place.getBoundingClientRect().top > innerHeight * 0.6)"
        "  place.scrollIntoView({behavior: 'smooth'})"
    )
    with place:
        for column in list(view.columns):
            await show_resemblance(view.explainer.workbench, column.answer, column.near)
        await _check(view, turn)


def _explained(view: ExplainState, model: ModelChoice, photo: Photo) -> ExplainedPhoto:
    """For the chosen class and layer, or the defaults where the model does not have them."""
    classifier = view.explainer.classifier(model)
    class_name = view.class_name if view.class_name in classifier.class_names else None
    layers = {name for name, _ in classifier.net.named_modules()}
    layer = view.layer if view.layer in layers else None
    try:
        return view.explainer.explain(model, photo, class_name, layer)
    except UsageError:
        # A layer without rows and columns, from an address that somebody typed.
        return view.explainer.explain(model, photo, class_name)


def _remember(view: ExplainState, place: Element) -> None:
    """Show the state in the address bar, without loading the page anew."""
    address = json.dumps(view.address.url)
    place.client.run_javascript(f"history.replaceState({{}}, '', path_prefix + {address})")


def _looks(view: ExplainState, answer: ExplainedPhoto, place: Element) -> None:
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
        _layer_field(view, answer, place)
        with box("gh-opacity"):
            text("Map over photo", "span", "gh-quiet")
            slider = ui.slider(min=0, max=100, value=100).props('aria-label="Opacity of the maps"')
            slider.on(
                "update:model-value",
                js_handler="(value) => document.documentElement.style"
                ".setProperty('--map-opacity', value / 100)",
            )
        ui.toggle(
            list(PALETTES), value=view.colours, on_change=lambda e: choose_colours(e.value)
        ).props("no-caps dense unelevated")


def _layer_field(view: ExplainState, answer: ExplainedPhoto, place: Element) -> None:
    """Where class activation maps are computed: an early layer is sharp, a late one abstract."""
    found = answer.page.activations
    if not found:
        return

    async def choose(name: str) -> None:
        view.layer = name or None
        await _show(view, place)

    used = next((e.layer for e in answer.page.explanations if e.layer is not None), "")
    default = "default" if view.layer else f"default ({used})"
    sizes = {each.layer: "x".join(map(str, each.values.shape[3:1:-1])) for each in found}
    options = {"": default, **{name: f"{name}, {size}" for name, size in sizes.items()}}
    if view.layer and view.layer not in options:
        options[view.layer] = view.layer
    ui.select(
        options,
        value=view.layer or "",
        label="Layer of the maps",
        on_change=lambda event: choose(event.value),
    ).props("outlined dense options-dense").classes("gh-select gh-layer")


def _choose_method(view: ExplainState, place: Element, method: str) -> None:
    view.method = method
    _remember(view, place)
    for column in view.columns:
        column.show_method(method)


async def _add_more(view: ExplainState, turn: int, column: Column) -> None:
    found = await in_thread(view.explainer.with_more, column.answer.key)
    if found is not None and view.is_at(turn, column.words):
        column.show_more(found)


async def _check(view: ExplainState, turn: int) -> None:
    for column in list(view.columns):
        checked = await in_thread(view.explainer.checked, column.answer.key)
        if not view.is_at(turn, column.words):
            return
        if checked is not None:
            column.show_checks(checked)
        else:
            column.show_no_checks()
