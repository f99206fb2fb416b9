"""Real training images, as they are and as they are trained on."""

import asyncio
from typing import TYPE_CHECKING, Any

from nicegui import background_tasks

from glasshouse.errors import GlasshouseError
from glasshouse.serving import run_cache as looking
from glasshouse.serving.pages.parts import box, button, facts, panel, text
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.workbench import Workbench

if TYPE_CHECKING:
    from glasshouse.settings import Recipe

_IMAGES, _DRAWS = 4, 4


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
            images, told = await asyncio.to_thread(_drawn, workbench, source, recipe)
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


def _drawn(
    workbench: Workbench, source: str, recipe: "Recipe"
) -> tuple[list[list[str]], dict[str, str]]:
    """Rows of images as data: addresses, the original first, and what is known of the source."""
    import numpy as np
    import torch

    from glasshouse.data.augment import augment, mix
    from glasshouse.report.encoding import image_uri
    from glasshouse.rng import keys_of

    splits = looking.load_source(workbench, source, recipe.data)
    chosen = _one_of_each(splits.train.labels)
    keys = keys_of(splits.train.ids[chosen])
    originals = np.ascontiguousarray(splits.train.pixels[chosen])
    rows = [[image_uri(image)] for image in originals]
    for epoch in range(_DRAWS):
        seed = recipe.train.seed
        changed = augment(torch.from_numpy(originals), keys, recipe.augment, seed=seed, epoch=epoch)
        labels = torch.zeros(len(chosen), dtype=torch.int64)
        mixed = mix(changed, labels, keys, recipe.augment, seed=seed, epoch=epoch)[0]
        shown = mixed.round().clamp(0, 255).to(torch.uint8).numpy()
        for row, image in zip(rows, shown, strict=True):
            row.append(image_uri(image))
    return rows, _told(splits)


def _one_of_each(labels: Any) -> Any:
    """Positions of the first image of each of the first classes."""
    import numpy as np

    _, first = np.unique(labels, return_index=True)
    if len(first) >= _IMAGES:
        return first[:_IMAGES]
    return np.arange(min(_IMAGES, len(labels)))


def _told(splits: Any) -> dict[str, str]:
    names = splits.class_names
    counts = ((len(splits.train), "training"), (len(splits.validation), "validation"),
              (len(splits.test), "test"))  # fmt: skip
    return {
        "images": ", ".join(f"{count:,} {part}" for count, part in counts),
        "size": f"{splits.train.width} × {splits.train.height}",
        "classes": f"{len(names)}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}",
        "notes": " ".join(splits.notes) or "–",
        **({"left out": f"{len(splits.bad_files)} files"} if splits.bad_files else {}),
    }
