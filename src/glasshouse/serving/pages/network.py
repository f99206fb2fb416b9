"""What a run is made of: its recipe, its surroundings and the layers of its net."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import box, button, facts, panel, table, text
from glasshouse.serving.pages.words import moment
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import read_json

Rows = list[tuple[str, ...]]
_layer_rows: Callable[..., tuple[Rows, str]] = deferred(
    "glasshouse.serving.layer_table", "layer_rows"
)


def show_recipe(folder: Path) -> None:
    """The recipe as it is, and what it ran on."""
    environment = read_json(folder / runs.ENVIRONMENT)
    data = environment["data"]
    images = ", ".join(f"{count:,} {part}" for part, count in data["images"].items())
    with box("gh-columns"):
        with panel("Recipe", "with every default"):
            text((folder / runs.RECIPE).read_text(encoding="utf-8"), "pre", "gh-code")
        with panel("Data and surroundings"):
            facts(
                {
                    "source": str(data["source"]),
                    "images": images,
                    "classes": f"{len(data['class_names'])}: {_some(data['class_names'])}",
                    "notes": "\n".join(data["notes"]) or "–",
                    "left out": f"{len(data['bad_files'])} files" if data["bad_files"] else "–",
                    "started": moment(str(environment["started"])),
                    "command": str(environment["command"]),
                    "machine": f"{environment['processor']}, threads: {environment['threads']}",
                    "computed": f"on {environment['device']} in {environment['precision']}",
                    **{k: str(v) for k, v in environment["versions"].items()},
                    "folder": str(folder),
                }
            )


def show_network(workbench: Workbench, name: str, *, at_once: bool) -> None:
    """The layers of the net, at once or when they are asked for.

    Reading them costs seconds of a processor, which a training that is watched can better use.
    """
    with panel("Network", classes="gh-limited") as section:
        waiting = text("Reading the net …", "p", "gh-quiet")
        show = button("Show the layers", "layers")
    waiting.set_visibility(at_once)
    show.set_visibility(not at_once)

    async def fill() -> None:
        waiting.set_visibility(True)
        show.delete()
        try:
            rows, total = await asyncio.to_thread(_layer_rows, workbench, name)
        except GlasshouseError as error:
            waiting.text = str(error)
            return
        waiting.delete()
        with section:
            table(("Layer", "Type", "Output", "Parameters", "Multiply-adds"), rows, numbers_from=2)
            text(total, "p", "gh-note")

    show.on_click(fill)
    if at_once:
        ui.timer(0.05, fill, once=True)


def _some(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
