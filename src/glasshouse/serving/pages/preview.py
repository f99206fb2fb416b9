"""Real training images, as they are and as they are trained on."""

import asyncio
from collections.abc import Callable

from nicegui import background_tasks

from glasshouse.errors import GlasshouseError
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import box, button, facts, panel, text
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.workbench import Workbench

_augmented_images: Callable[..., tuple[list[list[str]], dict[str, str]]] = deferred(
    "glasshouse.serving.augmented_images", "augmented_images"
)


def show_preview(workbench: Workbench, plan: TrainingPlan) -> None:
    """The panel with the button that looks; what it found stays until it is asked again."""
    with panel("Images", "as they are, and as they are trained on"):
        look = button("Look at the images", "image_search")
        problem = text("", "p", "gh-bad gh-problem")
        found = box("gh-stack gh-found")

    wanted = {"again": False, "at work": False}

    async def show() -> None:
        wanted["again"] = wanted["at work"]
        if wanted["at work"]:
            return
        wanted["at work"] = True
        problem.text = ""
        look.props("loading")
        try:
            recipe = plan.resolved()
            source = str(plan.source.value).strip()
            images, told = await asyncio.to_thread(_augmented_images, workbench, source, recipe)
        except GlasshouseError as error:
            problem.text = str(error)
        else:
            found.clear()
            with found:
                _images(images)
                facts(told)
        finally:
            look.props(remove="loading")
            wanted["at work"] = False
        if wanted["again"]:
            await show()

    async def follow() -> None:
        # Whoever has looked once sees what each change does.
        if found.default_slot.children:
            await show()

    look.on_click(show)
    plan.source.on_value_change(found.clear)  # they are of another source
    plan.changed.append(lambda: background_tasks.create(follow()))


def _images(rows: list[list[str]]) -> None:
    with box("gh-preview"):
        for row in rows:
            for i, address in enumerate(row):
                image = box("gh-pixels" + (" gh-original" if i == 0 else ""), "img")
                what = "a training image" if i == 0 else "the same as it is trained on"
                image.props.update({"src": address, "alt": what})
