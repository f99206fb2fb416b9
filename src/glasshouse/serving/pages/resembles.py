"""Below an answer: which training images a photo resembles, or that it is unlike all of them."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from glasshouse.errors import GlasshouseError
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import MARKS, box, breakable, button, in_thread, text
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import p_words, pluralize

_MODULE = "glasshouse.serving.resemblance"
_run_to_compare: Callable[..., Path | None] = deferred(_MODULE, "run_to_compare")
_is_compared_at_once: Callable[..., bool] = deferred(_MODULE, "is_compared_at_once")
_training_count: Callable[..., int] = deferred(_MODULE, "training_count")
_resemblance_of: Callable[..., Any] = deferred(_MODULE, "resemblance_of")

_P_HELP = "The share of validation images that are at least as unusual, this image among them."


async def show_resemblance(workbench: Workbench, answer: Any, place: Element) -> None:
    """Fill a place with what an explained photo resembles, or with a button that asks for it."""
    try:
        run = await in_thread(_run_to_compare, workbench, answer.model)
        if run is None or place.is_deleted:
            return
        if not await in_thread(_is_compared_at_once, workbench, run):
            count = await in_thread(_training_count, run)
            if not place.is_deleted:
                _offer(workbench, answer, run, count, place)
            return
    except GlasshouseError as error:
        _refuse(place, error)
        return
    await _compare(workbench, answer, run, place)


def _offer(workbench: Workbench, answer: Any, run: Path, count: int, place: Element) -> None:
    """What a comparison takes the first time, and a button where it may be made."""
    images = pluralize(count, "training image")
    with place:
        text("What it resembles", "h3")
        if workbench.read_only:
            command = f"glasshouse predict {shlex.quote(str(run))} PHOTO --similar"
            breakable(f"Its {images} have not been read for this yet: {command}", "p", "gh-quiet")
            return
        text(f"Its {images} are read once for this.", "p", "gh-quiet")
        start = button("Compare with the training images", "search")

    async def ask() -> None:
        await _compare(workbench, answer, run, place)

    start.on_click(ask)


async def _compare(workbench: Workbench, answer: Any, run: Path, place: Element) -> None:
    if place.is_deleted:
        return
    place.clear()
    with place, box("gh-row gh-step").props("role=status"):
        ui.spinner(size="16px").props("aria-hidden=true")
        text("Comparing with the training images …", "span", "gh-quiet")
    try:
        with place:
            shown = await in_thread(_resemblance_of, workbench, answer, run)
    except GlasshouseError as error:
        _refuse(place, error)
        return
    if not place.is_deleted:
        place.clear()
        with place:
            draw_resemblance(shown)


def draw_resemblance(shown: Any) -> None:
    """The sentence, its p-value, and the nearest training images with labels and distances."""
    familiarity = shown.found.familiarity
    words = shown.found.sentence(is_answered=True)
    with box("gh-sentence", "p"):
        verdict = (
            "doubtful" if familiarity.is_unknown else "good" if familiarity.can_tell else "note"
        )
        ui.icon(MARKS[verdict]).classes(f"gh-{verdict}").props("aria-hidden=true")
        with box("", "span"):
            text(words[0].upper() + words[1:], "strong" if familiarity.is_unknown else "span")
            if familiarity.p_value is not None:
                p = text(f" ({p_words(familiarity.p_value)})", "span", "gh-quiet")
                p.props["title"] = _P_HELP
    if shown.found.similar is None:
        return
    text("The training images that it resembles most", "h3")
    with box("gh-near", "ol"):
        for near in shown.found.similar.as_json():
            _near(near, shown.images.get(near["image"]))


def _near(near: dict[str, Any], address: str | None) -> None:
    with box("", "li"):
        name = f"{near['label']}: {near['image']}"
        if address is not None:
            shown_image = ui.element("img").classes("gh-pixels")
            shown_image.props.update({"src": address, "alt": name, "title": near["image"]})
        breakable(near["label"], "span", "gh-near-label")
        shown = text(f"{near['distance']:.3f}", "span", "gh-quiet")
        shown.props["title"] = f"{near['image']}: distance of the features, 0 the same, 2 opposite"
        if address is None:
            breakable(near["image"], "span", "gh-quiet gh-id")


def _refuse(place: Element, error: GlasshouseError) -> None:
    if place.is_deleted:
        return
    place.clear()
    with place:
        text(f"It cannot be compared with the training images: {error}", "p", "gh-quiet")
