"""The page that starts a training run: source, recipe, settings and their preview."""

from collections.abc import Callable
from pathlib import Path

from fastapi import Request
from nicegui import ui

from glasshouse.errors import GlasshouseError
from glasshouse.recipe import load_recipe, recipe_names
from glasshouse.runs import folder as runs
from glasshouse.runs.background import start_training
from glasshouse.serving.pages.finder_panel import show_finder
from glasshouse.serving.pages.folder_picker import folder_picker
from glasshouse.serving.pages.parts import (
    box,
    button,
    folded_panel,
    heading,
    in_thread,
    name_field,
    panel,
    text,
)
from glasshouse.serving.pages.preview import show_preview
from glasshouse.serving.pages.settings_form import AUGMENT, FIRST, MORE, FieldProblem
from glasshouse.serving.pages.training_plan import TrainingPlan
from glasshouse.serving.pages.words import run_address
from glasshouse.serving.run_lookup import listed_runs, run_folder
from glasshouse.serving.workbench import Page, Workbench
from glasshouse.wording import start_of_name

SOURCES = ("digits", "shapes", "cifar10")
_DEFAULT_RECIPE = "small-residual"


async def build_train(workbench: Workbench, request: Request) -> None:
    """A new plan, or that of the earlier run that the address names."""
    heading("Train", "Train a classifier on your own images or a built-in data set.")
    plan = TrainingPlan()
    with box("gh-train"):
        with box("gh-stack"):
            _what(workbench, plan, request)
            _how(plan)
        with box("gh-stack gh-side"):
            _start(workbench, plan)
            show_finder(workbench, plan)
            show_preview(workbench, plan)
    plan.form.show(load_recipe(str(plan.recipe.value)))


def _what(workbench: Workbench, plan: TrainingPlan, request: Request) -> None:
    """The five fields that matter most: source, recipe, epochs, learning rate and time budget."""
    names, source, recipe = dict.fromkeys(recipe_names()), "digits", _DEFAULT_RECIPE
    options = {name: name for name in names}
    earlier = request.query_params.get("like")
    if earlier:
        folder = run_folder(workbench, earlier)
        recipe = str(folder / runs.RECIPE)
        options = {recipe: f"as in {earlier}", **options}
        source = runs.read_run(folder).source
    source = request.query_params.get("source") or source
    with panel("What to train"):
        with box("gh-fields gh-halves"):
            _source(workbench, plan, source)
            with box("gh-field"):
                plan.recipe = ui.select(options, value=recipe, on_change=lambda: _changed(plan))
                plan.recipe.props("outlined dense options-dense").classes("gh-input")
                name_field("Recipe", plan.recipe)
                text("", "span", "gh-help").bind_text_from(
                    plan.recipe, "value", backward=_described
                )
        with plan.form.add(FIRST).classes("gh-first"):
            _minutes(plan)


def _source(workbench: Workbench, plan: TrainingPlan, source: str) -> None:
    with box("gh-field"):
        label = text("Source", "label", "gh-label")
        with box("gh-row gh-browse"):
            plan.source = ui.input(value=source).props("outlined dense").classes("gh-input")
            plan.source.props["aria-label"] = "Source"
            plan.source.props["for"] = label.props["for"] = f"field-{plan.source.id}"
            folder_picker(workbench, lambda: str(plan.source.value), plan.source.set_value)
        plan.problems["source"] = FieldProblem(plan.source)
        with box("gh-row gh-chips"):
            for name in SOURCES:
                chip = text(name, "button", "gh-pair gh-chip").props("type=button")
                chip.on("click", lambda name=name: plan.source.set_value(name))
        text(
            "a built-in data set, a folder with one folder per class, or a .csv table",
            "span",
            "gh-help",
        )


def _minutes(plan: TrainingPlan) -> None:
    """The time budget, which takes the place of the number of epochs."""
    with box("gh-field"):
        plan.minutes = ui.number(min=0).props('outlined dense clearable placeholder="none"')
        plan.minutes.props("debounce=300").classes("gh-input")
        name_field("Time budget, minutes", plan.minutes)
        plan.minutes.props["aria-label"] = "Time budget, minutes"
        plan.problems["minutes"] = FieldProblem(plan.minutes)
        text("epochs and width are chosen so that training fits into it", "span", "gh-help")
    epochs = plan.form.fields["train.epochs"]
    plan.minutes.on_value_change(lambda: epochs.set_enabled(plan.minutes.value is None))


def _described(name: str) -> str:
    try:
        return load_recipe(name).description
    except GlasshouseError as error:
        return str(error)


def _changed(plan: TrainingPlan) -> None:
    plan.form.show(load_recipe(str(plan.recipe.value)))


def _how(plan: TrainingPlan) -> None:
    with folded_panel("More settings", "defaults come from the recipe"):
        plan.form.add(MORE)
    with folded_panel("Augmentation", "random changes to the training images, new in every epoch"):
        plan.form.add(AUGMENT)
    with folded_panel("Any other key", "as with --set on the command line"), box("gh-field"):
        plan.more = ui.textarea(placeholder="train.ema_decay=0.99").classes("gh-input gh-area")
        plan.more.props('outlined dense autogrow aria-label="Other settings"')
        plan.problems["more"] = FieldProblem(plan.more)
        text("one key=value per line", "span", "gh-help")


def _start(workbench: Workbench, plan: TrainingPlan) -> None:
    """The name of the run and the button that starts it."""
    with panel("Start", classes="gh-start"):
        with box("gh-field"):
            name = ui.input(value=_free_name(workbench, plan)).classes("gh-input")
            name.props('outlined dense aria-label="Run name"')
            name_field("Run name", name)
        problem = text("", "p", "gh-bad gh-problem").props("role=alert")
        reread = ui.checkbox("Read all image files again")
        reread.tooltip("as --reread: also files whose size and time have not changed")
        go = button("Start training", "play_arrow", main=True).classes("gh-go")
        text(_note(workbench), "p", "gh-help")
    suggested = {"value": name.value}

    def rename() -> None:
        if name.value == suggested["value"]:
            name.value = suggested["value"] = _free_name(workbench, plan)

    plan.source.on_value_change(rename)
    plan.recipe.on_value_change(rename)

    async def start() -> None:
        problem.text = ""
        try:
            plan.resolved()
            source, run = plan.checked_source(), str(name.value).strip()
            again = ["--reread"] if reread.value else []
            recipe = str(plan.recipe.value)
            arguments = [*plan.arguments(), *again, *workbench.arguments]
            await in_thread(start_training, workbench.runs, run, source, recipe, arguments)
        except GlasshouseError as error:
            problem.text = str(error)
            return
        ui.navigate.to(run_address(run))

    go.on_click(start)


def _note(workbench: Workbench) -> str:
    busy = [run.name for run in listed_runs(workbench) if run.is_at_work]
    if busy:
        return f"In progress: {', '.join(busy[:3])}. Runs slow each other down."
    return "Training continues when you close this page or the workbench."


def _free_name(workbench: Workbench, plan: TrainingPlan) -> str:
    """A name that is not taken: source-recipe-1, -2 and so on."""
    source = start_of_name(Path(str(plan.source.value or "run")).stem)
    try:
        recipe = load_recipe(str(plan.recipe.value)).name
    except GlasshouseError:
        recipe = "custom"
    kept: Callable[[str], str] = lambda words: "".join(  # noqa: E731 - one short rule, used here
        c if c.isalnum() or c in "._-" else "-" for c in words
    ).strip("-._")
    return runs.next_run_folder(workbench.runs, kept(f"{source}-{recipe}") or "run").name


PAGE = Page("/train", "Train", build_train, label="Train", icon="play_circle", makes_changes=True)
