"""The page of one run: how training goes, and when it is over, how good it is."""

from collections.abc import Callable
from urllib.parse import quote, urlencode

from fastapi import Request
from nicegui import ui
from nicegui.element import Element

from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.serving.pages.curves import show_curves
from glasshouse.serving.pages.gallery import explain_address
from glasshouse.serving.pages.network import show_network, show_recipe
from glasshouse.serving.pages.parts import box, button, link_button, panel, text
from glasshouse.serving.pages.results import show_results
from glasshouse.serving.pages.words import duration, percent, rate
from glasshouse.serving.watching import Snapshot, snapshot_of
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.workflow import runs
from glasshouse.workflow.background import resume_training, stop_training

# Charts of what changes once a second, on as many screens as look: often enough, and cheap.
_REFRESH_SECONDS = 2.0


async def build(workbench: Workbench, request: Request) -> None:
    """The run that the address names, kept up to date while it is at work."""
    name = str(request.path_params["name"])
    first = snapshot_of(workbench, name) if _is_inside(workbench, name) else None
    if first is None:
        raise UsageError(f"There is no run named {name} in {workbench.runs}.")
    updates: list[Callable[[Snapshot], None]] = [_head(workbench, name), _figures()]
    updates.append(show_curves(first))
    results = box("gh-stack gh-results")
    updates.append(_log())
    surroundings = box("gh-surroundings")
    shown = {"version": -1, "results": False, "recipe": False}

    async def refresh() -> None:
        now = snapshot_of(workbench, name)
        if now is None or now.version == shown["version"]:
            return
        shown["version"] = now.version
        for update in updates:
            update(now)
        if now.listed.recipe and not shown["recipe"]:
            shown["recipe"] = True
            with surroundings:
                show_network(workbench, name, at_once=now.status == "finished")
                show_recipe(now.listed.folder)
        if now.status == "finished" and not shown["results"]:
            shown["results"] = True
            await _fill(results, workbench, name)

    await refresh()
    ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


async def _fill(results: Element, workbench: Workbench, name: str) -> None:
    with results:
        try:
            show_results(workbench, name)
        except (GlasshouseError, KeyError, TypeError) as error:
            text(f"The results cannot be shown: {error}", "p", "gh-bad")


def _is_inside(workbench: Workbench, name: str) -> bool:
    try:
        return (workbench.runs / name).resolve().is_relative_to(workbench.runs.resolve())
    except (OSError, ValueError):
        return False


def _head(workbench: Workbench, name: str) -> Callable[[Snapshot], None]:
    """Name, status and what can be done now."""

    def attempt(action: Callable[[], object], done: str) -> None:
        try:
            action()
            ui.notify(done)
        except GlasshouseError as error:
            ui.notify(str(error), type="negative")

    with box("gh-heading gh-run-head"):
        text(name, "h1")
        status = text("", "span", "gh-status")
        with box("gh-row gh-push"):
            stop = button("Stop", "stop").classes("gh-danger")
            go_on = button("Go on", "play_arrow", main=True)
            again = link_button("Train again", f"/train?{urlencode({'like': name})}", icon="replay")
            explain = link_button("Explain", explain_address(name), icon="visibility")
            report = link_button("Report", f"/report/{quote(name)}", icon="description")
    report.props("target=_blank")
    stop.on_click(
        lambda: attempt(
            lambda: stop_training(workbench.runs, name),
            "It stops after this step; everything is saved.",
        )
    )
    go_on.on_click(
        lambda: attempt(
            lambda: resume_training(workbench.runs, name, workbench.arguments),
            "It goes on where it stopped.",
        )
    )

    def update(now: Snapshot) -> None:
        status.text = now.status
        status.classes(replace=f"gh-status gh-{now.status}")
        stop.set_visibility(now.is_at_work)
        go_on.set_visibility(now.status == "stopped")
        again.set_visibility((now.listed.folder / runs.RECIPE).is_file())
        explain.set_visibility(now.status == "finished")
        report.set_visibility((now.listed.folder / runs.REPORT).is_file())

    return update


def _figures() -> Callable[[Snapshot], None]:
    """The figures that change, above a line that fills."""
    with panel(classes="gh-live"):
        with box("gh-figures", "dl"):
            values = {}
            for name in ("Epoch", "Validation accuracy", "Time left", "Trained for", "Speed",
                         "Learning rate", "Source", "Recipe"):  # fmt: skip
                with box("gh-figure"):
                    text(name, "dt")
                    values[name] = text("–", "dd")
        with box("gh-progress") as frame:
            bar = box("gh-progress-done")
    frame.props("role=progressbar aria-valuemin=0 aria-valuemax=100 aria-label='Share trained'")

    def update(now: Snapshot) -> None:
        for name, value in _live_values(now).items():
            values[name].text = value
        bar.style(f"width: {100 * now.done:.1f}%")
        frame.props["aria-valuenow"] = round(100 * now.done)
        frame.set_visibility(now.status != "finished")

    return update


def _live_values(now: Snapshot) -> dict[str, str]:
    last = now.epochs[-1] if now.epochs else {}
    mark, listed = now.mark, now.listed
    at_work = now.status == "training" and mark is not None
    epoch = mark.epoch if at_work and mark else listed.epochs
    best = max(listed.validation, default=None)
    speed = mark.images_per_second if at_work and mark else last.get("images_per_second")
    lr = mark.lr if at_work and mark else last.get("lr")
    return {
        "Epoch": f"{epoch} / {listed.of}" if listed.of else "–",
        "Validation accuracy": "–"
        if not last
        else f"{percent(last['validation_accuracy'])}"
        + (f" (best {percent(best)})" if best and best > last["validation_accuracy"] else ""),
        "Time left": _left(now),
        "Trained for": duration(listed.seconds) if now.epochs else "–",
        "Speed": f"{speed:,.0f} images/s" if speed else "–",
        "Learning rate": rate(lr) if lr is not None else "–",
        "Source": listed.source or "–",
        "Recipe": listed.recipe or "–",
    }


def _left(now: Snapshot) -> str:
    words = {"starting": "reading the pictures", "measuring": "measuring", "finished": "done"}
    if now.status == "training":
        return duration(now.seconds_left)
    return words.get(now.status, "–")


def _log() -> Callable[[Snapshot], None]:
    """What a training in the background said, while it is not finished, or what is damaged."""
    with panel("What it says", classes="gh-log-panel") as section:
        words = text("", "pre", "gh-log")

    def update(now: Snapshot) -> None:
        words.text = now.log or now.listed.problem
        section.set_visibility(bool(words.text))

    return update


PAGE = Page("/run/{name:path}", "Run", build)
