"""The test images that the page Explain offers: the worst mistakes of a run, and others."""

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
from nicegui import ui
from nicegui.element import Element

from glasshouse.data.images import ImageSet
from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.metrics import worst_mistakes
from glasshouse.evaluation.multi_label import wrong_labels
from glasshouse.models.predict import load_predictions
from glasshouse.report.encoding import image_uri
from glasshouse.runs import folder as runs
from glasshouse.serving.explainer import photo_of
from glasshouse.serving.pages.explain.state import ExplainState
from glasshouse.serving.pages.parts import box, button, in_thread, link_button, text
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.model_choices import ModelChoice, run_of_choice

_MISTAKES_SHOWN, _OTHERS_SHOWN = 6, 10


async def fill_strip(
    view: ExplainState, strip: Element, show: Callable[[], Awaitable[None]], wanted: str
) -> None:
    """Test images of the first run among the models: its worst mistakes, and a random selection."""
    strip.clear()
    with strip:
        text("Loading the test images …", "p", "gh-quiet")
    model = view.explainer.image_model(view.models)
    try:
        images = await in_thread(view.explainer.test_images, model)
        mistakes = await in_thread(_worst_mistakes, view.explainer.workbench, model, images)
    except GlasshouseError as error:
        strip.clear()
        with strip:
            _no_images(view, error)
        return
    if model != view.explainer.image_model(view.models):
        return
    strip.clear()
    with strip:
        _strip_row("Its worst mistakes", images, mistakes, view, show)
        others = box("gh-strip")
        button("Other images", "shuffle").on_click(partial(_others, others, images, view, show))
    _others(others, images, view, show)
    rows = np.flatnonzero(images.ids == wanted)
    if len(rows):
        view.photo, view.asked = photo_of(images, int(rows[0])), {"image": wanted}
        await show()


def _no_images(view: ExplainState, error: GlasshouseError) -> None:
    """Why there are no test images to choose from, and what is still possible."""
    folder = run_of_choice(view.explainer.workbench.runs, view.explainer.image_model(view.models))
    if folder is None:
        text("No test images", "h3")
        text(
            f"{error}. For a run that was trained here, this panel offers its test images, its "
            "worst mistakes and its epochs.",
            "p",
            "gh-quiet",
        )
        if not view.explainer.workbench.read_only:
            link_button("Train a classifier", "/train", icon="play_arrow")
        return
    text("Its test images cannot be read", "h3")
    text(f"{error}. Uploaded photos can still be explained.", "p", "gh-quiet")


def _others(
    place: Element, images: ImageSet, view: ExplainState, show: Callable[[], Awaitable[None]]
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
    view: ExplainState,
    show: Callable[[], Awaitable[None]],
) -> None:
    async def choose(row: int) -> None:
        view.photo, view.class_name = photo_of(images, row), None
        view.asked = {"image": str(images.ids[row])}
        await show()

    if not rows:
        return
    text(title, "h3")
    with box("gh-thumbs"):
        for row in rows:
            label = images.label_text(row)
            words = f"Explain {images.ids[row]}, an image of {label}"
            with box("gh-thumb", "button").on("click", partial(choose, row)) as thumb:
                thumb.props["aria-label"] = words
                thumb.props["title"] = f"{label} · {images.ids[row]}"
                image = ui.element("img").classes("gh-pixels" if images.width < 100 else "")
                image.props.update({"src": image_uri(images.pixels[row]), "alt": ""})


def _worst_mistakes(workbench: Workbench, model: ModelChoice, images: ImageSet) -> list[int]:
    """Rows of the run's most confident mistakes, the most confident first.

    Where an image may have several labels: those with the labels farthest from their threshold.
    """
    folder = run_of_choice(workbench.runs, model)
    if folder is None or not (folder / runs.PREDICTIONS).is_file():
        return []
    predictions = load_predictions(folder / runs.PREDICTIONS)
    if predictions.is_multi_label:
        names = list(dict.fromkeys(error.id for error in wrong_labels(predictions)))
    else:
        names = [mistake.id for mistake in worst_mistakes(predictions, _MISTAKES_SHOWN)]
    row_of = {name: row for row, name in enumerate(images.ids.tolist())}
    return [row_of[name] for name in names if name in row_of][:_MISTAKES_SHOWN]
