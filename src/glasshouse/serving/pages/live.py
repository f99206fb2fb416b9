"""What changes on the page of a run during training, as small messages shared by all viewers.

Texts and charts that change are marked with `data-live`; `glasshouse.live` in the page's script
applies a message to them.
"""

import json
from functools import lru_cache
from typing import Any

from nicegui import ui
from nicegui.element import Element

from glasshouse.runs.listing import Listed
from glasshouse.serving.pages.charts import Options
from glasshouse.serving.pages.curves import curve_series
from glasshouse.serving.pages.words import percent, rate
from glasshouse.serving.run_watch import Snapshot
from glasshouse.wording import duration, epochs_so_far, shown_path

# The event that a page sends when its tab is shown or hidden: hidden tabs get no messages.
IN_SIGHT = "glasshouse-in-sight"
SHARE_DONE = "share-done"
LOG = "log"
PROBLEM = "problem"


def marked(element: Element, name: str) -> Element:
    """Mark an element as one that messages change."""
    element.props["data-live"] = name
    return element


def send_change(before: Snapshot | None, now: Snapshot) -> None:
    """Update the viewer's page from one moment to another; before is None: from any state."""
    # One cached string: NiceGUI would serialise structured arguments for every viewer.
    ui.run_javascript(change(before, now))


@lru_cache(maxsize=32)
def change(before: Snapshot | None, now: Snapshot) -> str:
    """The message, as JavaScript."""
    known = {} if before is None else live_words(before)
    words = {name: text for name, text in live_words(now).items() if known.get(name) != text}
    old, new = curve_series(before), curve_series(now)
    charts = {name: _new_points(old[name], new[name]) for name in new}
    message = {"words": words, "charts": {name: found for name, found in charts.items() if found}}
    return f"glasshouse.live({json.dumps(message)})"


def live_words(now: Snapshot) -> dict[str, str]:
    """Every text that changes, by the mark of its element."""
    last = now.epochs[-1] if now.epochs else {}
    mark, listed = now.mark, now.listed
    at_work = now.status == "training" and mark is not None
    epoch = mark.epoch if at_work and mark else listed.epochs
    best = max(listed.validation, default=None)
    speed = mark.images_per_second if at_work and mark else last.get("images_per_second")
    lr = mark.lr if at_work and mark else last.get("lr")
    return {
        "Epoch": epochs_of(epoch, listed),
        "Validation accuracy": "–"
        if not last
        else f"{percent(last['validation_accuracy'])}"
        + (f" (best {percent(best)})" if best and best > last["validation_accuracy"] else ""),
        "Time left": _left(now),
        "Training time": duration(listed.seconds) if listed.seconds else "–",
        "Speed": f"{speed:,.0f} images/s" if speed else "–",
        "Learning rate": rate(lr) if lr is not None else "–",
        "Source": shown_path(listed.source) or "–",
        "Recipe": listed.recipe or "–",
        SHARE_DONE: f"{100 * now.done:.1f}%",
        PROBLEM: listed.problem[:1].upper() + listed.problem[1:],
        LOG: now.log,
    }


def epochs_of(epoch: int, listed: Listed) -> str:
    """The progress in epochs, such as 3 / 10; "features" for runs that have no epochs."""
    if listed.of:
        return epochs_so_far(epoch, listed.of, " / ")
    return "features" if listed.recipe else "–"


def _left(now: Snapshot) -> str:
    words = {"starting": "loading images", "finished": "done", "tried": "done"}
    if now.status == "training":
        return "–" if now.seconds_left is None else duration(now.seconds_left)
    return words.get(now.status, "–")


def _new_points(before: list[Options], now: list[Options]) -> list[dict[str, Any]]:
    """For each line that changed, its points from the first difference on; new lines in full."""
    old = {line["name"]: line for line in before}
    gone = [{"name": name, "from": 0, "data": []} for name in old.keys() - {o["name"] for o in now}]
    found = []
    for line in now:
        if line["name"] not in old:
            found.append({**line, "from": 0})
        elif line["data"] != old[line["name"]]["data"]:
            first = _first_difference(old[line["name"]]["data"], line["data"])
            points = line["data"][first:]
            short = {"name": line["name"], "showSymbol": line["showSymbol"]}
            found.append({**short, "from": first, "data": points})
    return [*gone, *found]


def _first_difference(before: list[Any], now: list[Any]) -> int:
    shared = min(len(before), len(now))
    return next((i for i in range(shared) if before[i] != now[i]), shared)
