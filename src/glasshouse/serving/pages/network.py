"""What a run is made of: its recipe, its surroundings and the layers of its net."""

import asyncio
from pathlib import Path

from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.serving import looking
from glasshouse.serving.pages.parts import box, facts, panel, table, text
from glasshouse.serving.pages.words import moment
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import read_json
from glasshouse.workflow import runs

Rows = list[tuple[str, ...]]


def show_recipe(folder: Path) -> None:
    """The recipe as it is, and what it ran on."""
    environment = read_json(folder / runs.ENVIRONMENT)
    data = environment["data"]
    pictures = ", ".join(f"{count:,} {part}" for part, count in data["pictures"].items())
    with box("gh-columns"):
        with panel("Recipe", "with every default"):
            text((folder / runs.RECIPE).read_text(encoding="utf-8"), "pre", "gh-code")
        with panel("Data and surroundings"):
            facts(
                {
                    "source": str(data["source"]),
                    "pictures": pictures,
                    "classes": f"{len(data['class_names'])}: {_some(data['class_names'])}",
                    "notes": " ".join(data["notes"]) or "–",
                    "left out": f"{len(data['bad_files'])} files" if data["bad_files"] else "–",
                    "started": moment(str(environment["started"])),
                    "command": str(environment["command"]),
                    "machine": f"{environment['processor']}, {environment['threads']} threads",
                    "computed": f"on {environment['device']} in {environment['precision']}",
                    **{k: str(v) for k, v in environment["versions"].items()},
                    "folder": str(folder),
                }
            )


def show_network(workbench: Workbench, name: str) -> None:
    """The layers of the net, as soon as it is read."""
    with panel("Network", classes="gh-limited") as section:
        waiting = text("Reading the net …", "p", "gh-quiet")

    async def fill() -> None:
        try:
            rows, total = await asyncio.to_thread(_layers, looking.run_folder(workbench, name))
        except GlasshouseError as error:
            waiting.text = str(error)
            return
        waiting.delete()
        with section:
            table(("Layer", "Type", "Output", "Parameters", "Multiply-adds"), rows, numbers_from=2)
            text(total, "p", "gh-note")

    ui.timer(0.05, fill, once=True)


def _layers(folder: Path) -> tuple[Rows, str]:
    from glasshouse.models.summary import summarize

    classifier = looking.classifier_of(folder)
    wanted = classifier.preprocessing
    with looking.busy:
        found = summarize(classifier.net, (3, wanted.height, wanted.width))
    rows: Rows = [
        (
            row.name,
            row.kind,
            " × ".join(str(size) for size in row.output_shape or ()),
            f"{row.parameters:,}",
            f"{row.macs:,}",
        )
        for row in found.rows
    ]
    total = f"{found.parameters:,} parameters, {found.macs:,} multiply-adds for a picture of "
    return rows, f"{total}{wanted.width} × {wanted.height} pixels."


def _some(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
