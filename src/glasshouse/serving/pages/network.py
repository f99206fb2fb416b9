"""What a run is made of: its recipe, its environment and the layers of its network."""

from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs, records
from glasshouse.runs.records import read_run_file
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import box, button, facts, in_thread, panel, table, text
from glasshouse.serving.pages.words import moment
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import pluralize

Rows = list[tuple[str, ...]]
_layer_rows: Callable[..., tuple[Rows, str]] = deferred(
    "glasshouse.serving.layer_table", "layer_rows"
)


def show_recipe(folder: Path) -> None:
    """The resolved recipe, the data and the environment of the run."""
    environment = read_run_file(folder / runs.ENVIRONMENT, records.EnvironmentFile)
    data = environment["data"]
    images = ", ".join(f"{count:,} {split}" for split, count in data["images"].items())
    threads = pluralize(int(environment["threads"]), "thread")
    bad = pluralize(len(data["bad_files"]), "file") if data["bad_files"] else ""
    with box("gh-columns"):
        with panel("Recipe", "resolved, with all defaults"):
            text((folder / runs.RECIPE).read_text(encoding="utf-8"), "pre", "gh-code")
        with panel("Data and environment"):
            facts(
                {
                    "source": str(data["source"]),
                    "images": images,
                    "classes": f"{len(data['class_names'])}: {_some(data['class_names'])}",
                    "notes": "\n".join(data["notes"]) or "–",
                    "unreadable": bad or "–",
                    "started": moment(str(environment["started"])),
                    "command": str(environment["command"]) or "–",
                    "machine": f"{environment['processor']}, {threads}",
                    "device": f"{environment['device']}, {environment['precision']}",
                    **{k: str(v) for k, v in environment["versions"].items()},
                    "folder": str(folder),
                }
            )


def show_network(workbench: Workbench, name: str, *, at_once: bool) -> None:
    """The layers of the network, at once or when the button is pressed.

    Loading torch and the network takes seconds of processor time, better left to a run in training.
    """
    with panel("Network", classes="gh-limited") as section:
        waiting = text("Loading the network …", "p", "gh-quiet")
        show = button("Show layers", "layers")
    waiting.set_visibility(at_once)
    show.set_visibility(not at_once)

    async def fill() -> None:
        waiting.set_visibility(True)
        show.delete()
        try:
            rows, total = await in_thread(_layer_rows, workbench, name)
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
