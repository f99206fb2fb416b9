"""Training images before and after augmentation."""

from collections.abc import Callable

from nicegui import background_tasks

from glasshouse.errors import GlasshouseError
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import box, button, facts, in_thread, panel, text
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.workbench import Workbench

_augmented_images: Callable[..., tuple[list[list[str]], dict[str, str]]] = deferred(
    "glasshouse.serving.augmented_images", "augmented_images"
)


def show_preview(workbench: Workbench, plan: TrainingPlan) -> None:
    """The panel that previews the augmentation; once shown, it follows every change."""
    with panel("Preview", "training images, original and augmented"):
        look = button("Show images", "image_search")
        problem = text("", "p", "gh-bad gh-problem")
        found = box("gh-stack gh-found")

    state = {"again": False, "busy": False}

    async def show() -> None:
        # A change during loading is shown right after it, however many changes there were.
        state["again"] = state["busy"]
        if state["busy"]:
            return
        state["busy"] = True
        problem.text = ""
        look.props("loading")
        try:
            recipe, source = plan.resolved(), plan.checked_source()
            images, known = await in_thread(_augmented_images, workbench, source, recipe)
        except GlasshouseError as error:
            problem.text = str(error)
        else:
            found.clear()
            with found:
                _images(images)
                facts(known)
        finally:
            look.props(remove="loading")
            state["busy"] = False
        if state["again"]:
            await show()

    async def follow() -> None:
        # Only after the button was pressed once: loading a source takes time.
        if found.default_slot.children:
            with found:  # a background task is in no element, and the page is found through one
                await show()

    look.on_click(show)
    plan.source.on_value_change(found.clear)  # the images belong to the old one
    plan.changed.append(lambda: background_tasks.create(follow()))


def _images(rows: list[list[str]]) -> None:
    with box("gh-preview"):
        for row in rows:
            for i, address in enumerate(row):
                image = box("gh-pixels" + (" gh-original" if i == 0 else ""), "img")
                what = "training image" if i == 0 else "the same image, augmented"
                image.props.update({"src": address, "alt": what})
