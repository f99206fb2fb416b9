"""The learning rate range test, and one click to use the suggestion."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from glasshouse.child_python import child_environment
from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.recipe import to_toml
from glasshouse.serving.pages.charts import (
    COLOURS,
    ORANGE,
    Options,
    echart,
    line,
    lines,
    mark_points,
)
from glasshouse.serving.pages.parts import box, button, panel, text
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.pages.words import rate
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import Recipe

_LOG_CHARACTERS = 400


def show_finder(workbench: Workbench, plan: TrainingPlan) -> None:
    """The panel that runs the test, in a process of its own."""
    with panel("Learning rate finder", "range test on copies of the network"):
        with box("gh-row"):
            find = button("Run test", "query_stats")
            stop = button("Stop", "stop")
        stop.set_visibility(False)
        progress = text("", "p", "gh-help")
        problem = text("", "p", "gh-bad gh-problem")
        found = box("gh-stack gh-found")
    running: dict[str, asyncio.subprocess.Process] = {}

    async def make() -> None:
        problem.text, progress.text = "", "training copies at increasing learning rates …"
        found.clear()
        find.disable()
        stop.set_visibility(True)
        try:
            recipe, source = plan.resolved(), plan.checked_source()
            curve = await _test(workbench, source, recipe, running, progress.set_text)
        except GlasshouseError as error:
            problem.text = str(error)
            return
        finally:
            find.enable()
            stop.set_visibility(False)
            progress.text = ""
            running.clear()
        with found:
            _result(plan, curve, recipe.train.schedule.type)

    find.on_click(make)

    def end() -> None:
        for process in running.values():
            if process.returncode is None:
                process.kill()

    stop.on_click(end)
    ui.context.client.on_delete(end)  # the page was closed: nobody waits for the result


async def _test(
    workbench: Workbench,
    source: str,
    recipe: Recipe,
    running: dict[str, asyncio.subprocess.Process],
    show_progress: Callable[[str], object],
) -> dict[str, Any]:
    """The result of `glasshouse lr-find --json`; raises UsageError with its error message.

    show_progress: called with each line of its progress.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(to_toml(recipe), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "glasshouse", "lr-find", source, "--recipe", str(path),
            "--out", "-", "--json", *workbench.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            env=child_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        running["test"] = process
        output, messages = await asyncio.gather(
            _read(process.stdout), _follow(process.stderr, show_progress)
        )
        await process.wait()
    # Negative: ended by a signal, which is what the Stop button sends.
    if process.returncode is not None and process.returncode < 0:
        raise UsageError("Test stopped.")
    try:
        curve: dict[str, Any] = json.loads(output)
    except ValueError:
        words = messages.strip()[-_LOG_CHARACTERS:]
        raise UsageError(words.removeprefix("glasshouse: ") or "The test failed.") from None
    return curve


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""


async def _follow(
    stream: asyncio.StreamReader | None, show_progress: Callable[[str], object]
) -> str:
    """The whole output; each line is passed on as it arrives."""
    lines: list[str] = []
    if stream is not None:
        async for line_read in stream:
            lines.append(line_read.decode("utf-8", "replace"))
            show_progress(lines[-1].strip())
    return "".join(lines)


def _result(plan: TrainingPlan, curve: dict[str, Any], schedule: str) -> None:
    echart(finder_options(curve), f"Loss over learning rate. {curve['verdict']}", "gh-short")
    lr = recommended_rate(curve)
    if lr is None:
        text(f"No recommendation: {curve['verdict']}.", "p", "gh-quiet")
        return
    # Rates that are listed are scaled to the one that is found; a number has to be one of them.
    is_listed = schedule == "per_epoch"
    value = "auto" if is_listed else rate(lr)
    with box("gh-row gh-recommended"):
        text(f"Recommended: {rate(lr)}", "strong")
        button(f"Use {value}", "check", main=True).on_click(lambda: _use(plan, value))
    why = "the highest of the listed rates" if is_listed else "for this schedule"
    text(f"{why}, as train.lr = auto would choose it", "p", "gh-help")


def recommended_rate(curve: dict[str, Any]) -> float | None:
    """The learning rate that suits the schedule; None where the loss falls at no rate."""
    found: float | None = curve["suggestion"] if curve["auto_lr"] is None else curve["auto_lr"]
    return found


def _use(plan: TrainingPlan, value: str) -> None:
    plan.form.fields["train.lr"].value = value
    ui.notify(f"Learning rate set to {value}.")


def finder_options(curve: dict[str, Any]) -> Options:
    """The chart of a range test: each seed raw and smoothed, with the suggestion marked."""
    lrs = curve["lrs"]
    colours = [colour for colour in COLOURS if colour != ORANGE]  # so that the mark stands out
    series = []
    for seed, (raw, smoothed) in enumerate(zip(curve["losses"], curve["smoothed"], strict=True)):
        colour = colours[seed % len(colours)]
        series.append(line(f"seed {seed}", _points(lrs, smoothed), colour))
        series.append(line(f"seed {seed}, per step", _points(lrs, raw), colour, faint=True))
    options = lines(series, x="learning rate", y="loss, nats", scale="log")
    options["legend"]["show"] = False
    options["grid"] |= {"top": 22, "left": 20}  # the name of the axis is no label
    smoothed = [value for row in curve["smoothed"] for value in row if value is not None]
    if not smoothed:
        return options
    # The loss explodes at the end; drawn in full, it would flatten the part that matters.
    high = max(row[0] or 0 for row in curve["smoothed"]) * 1.6
    low = min(smoothed) - 0.1 * (high - min(smoothed))
    low, high = round(max(low, 0.0), 1), round(high, 1)
    options["yAxis"] |= {"min": low, "max": high}
    options["yAxis"]["axisLabel"] |= {"showMinLabel": False, "showMaxLabel": False}
    wanted = recommended_rate(curve)
    return options if wanted is None else mark_points(options, rate(wanted), wanted, low, high)


def _points(lrs: list[float], losses: list[float | None]) -> list[tuple[float, float]]:
    pairs = zip(lrs, losses, strict=True)
    return [(float(f"{lr:.4g}"), round(loss, 4)) for lr, loss in pairs if loss is not None]
