"""The page of a hyperparameter search: its trials, the best first."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs
from glasshouse.runs.listing import Listed, list_run
from glasshouse.serving.pages.live import epochs_of
from glasshouse.serving.pages.parts import box, breakable, in_thread, link, panel, table, text
from glasshouse.serving.pages.words import run_address, score_text
from glasshouse.serving.workbench import Workbench
from glasshouse.storage import read_json
from glasshouse.wording import listed, pluralize

_REFRESH_SECONDS = 3.0


def is_search(workbench: Workbench, name: str) -> bool:
    """Whether a folder below that of the runs holds a search."""
    return (workbench.runs / name / runs.SEARCH).is_file()


async def show_search(workbench: Workbench, name: str) -> None:
    """What was searched and what each trial reached, kept up to date."""
    folder = workbench.runs / name
    shown = await in_thread(trials_of, workbench.runs, folder)
    with box("gh-heading"):
        breakable(name, "h1")
        text("a hyperparameter search", "p", "gh-quiet")
    place = box("gh-stack")
    _fill(place, folder, shown)

    async def refresh() -> None:
        nonlocal shown
        now = await in_thread(trials_of, workbench.runs, folder)
        if now != shown:
            shown = now
            place.clear()
            _fill(place, folder, now)

    ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


def trials_of(parent: Path, folder: Path) -> list[Listed]:
    """The trials of a search in a folder below the parent, best first, then those not done."""
    found = [
        list_run(parent, path.parent)
        for path in (folder / runs.TRIAL_FOLDERS).glob(f"*/{runs.RECIPE}")
    ]
    worst = float("-inf")
    return sorted(found, key=lambda t: (-(worst if t.tried is None else t.tried), t.name))


def _fill(place: Element, folder: Path, trials: list[Listed]) -> None:
    with place:
        text(_summary(folder, trials), "p", "gh-quiet gh-problem")
        record = _record(folder)
        if (folder / runs.BEST).is_file() and record:
            words = ["glasshouse", "train", record["source"], "--recipe", str(folder / runs.BEST)]
            text("Train with the best:", "p", "gh-quiet")
            text(shlex.join(words), "pre", "gh-code")
        if not trials:
            return
        keys = [each.partition("=")[0] for each in record.get("search", [])]
        with panel("Trials", "the best in validation first"):
            names = ("Trial", "Status", "Validation", "Epochs", *short_names(keys))
            whole = table(names, [_row(trial, keys) for trial in trials], numbers_from=2)
        # The first cell of each row opens the page of its trial.
        cells = [one for one in whole.descendants() if one.props.get("data-label") == "Trial"]
        for cell, trial in zip(cells, trials, strict=True):
            with cell:
                link(trial.folder.name, run_address(trial.name))


def short_names(keys: list[str]) -> list[str]:
    """The last part of each key, as words, where that is enough to tell them apart."""
    short = [key.rpartition(".")[2].replace("_", " ") for key in keys]
    return short if len(set(short)) == len(short) else keys


def _row(trial: Listed, keys: list[str]) -> list[str]:
    value = "–" if trial.tried is None else score_text(trial.metric, trial.tried)
    values = [_value(trial.folder, key) for key in keys]
    return ["", trial.status, value, epochs_of(trial.epochs, trial), *values]


def _value(trial: Path, key: str) -> str:
    """What a trial has for a key; a dash for the size of a network, which is many keys at once."""
    try:
        found: Any = tomllib.loads((trial / runs.RECIPE).read_text(encoding="utf-8"))
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
    except (OSError, ValueError, LookupError, TypeError):
        return "–"
    if not isinstance(found, float):
        return str(found)
    # Three digits fit on a phone; from 100 on they would be an exponent.
    return f"{found:.3g}" if abs(found) < 100 else f"{found:.6g}"


def _summary(folder: Path, trials: list[Listed]) -> str:
    counts = dict.fromkeys(("tried", "training", "stopped", "failed", "damaged"), 0)
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    found = {status: count for status, count in counts.items() if count}
    said = listed([f"{count:,} {status}" for status, count in found.items()] or ["none"])
    number = pluralize(len(trials), "trial")
    told = f"{number} {next(iter(found))}" if len(found) == 1 else f"{number}: {said}"
    sentence = f"{told}. None is tested on the test split."
    if (folder / runs.BEST).is_file():
        return sentence
    if counts["training"]:
        return f"{sentence} To stop the search, press Ctrl+C where it was started."
    return f"{sentence} The command that started the search resumes it."


def _record(folder: Path) -> dict[str, Any]:
    """What was searched and on which source; empty where the file that says so is damaged."""
    try:
        record = read_json(folder / runs.SEARCH)
        return {"source": str(record["source"]), "search": [str(e) for e in record["search"]]}
    except (GlasshouseError, LookupError, TypeError):
        return {}
