"""The results of a finished run: metrics, confusion matrix, calibration and mistakes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs, records
from glasshouse.runs.records import read_run_file
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.gallery import mapped_image, plain_image
from glasshouse.serving.pages.label_results import (
    has_several_labels,
    show_label_headline,
    show_label_results,
)
from glasshouse.serving.pages.parts import box, in_thread, panel, stats, table, text
from glasshouse.serving.pages.reliability import show_reliability
from glasshouse.serving.pages.verdicts import show_verdicts
from glasshouse.serving.pages.words import percent
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import duration, percentage, pluralize

EvaluationRecord = Mapping[str, Any]
# A larger matrix cannot be read: then only the most confused classes are shown.
_MOST_CLASSES = 20
_SHORT_NAME = 3  # characters that fit over a column
_PAIRS, _MISTAKES, _PER_CELL = 8, 12, 60
_RUN_IMAGES = "glasshouse.serving.run_images"
_confusion_cell: Callable[..., tuple[tuple[str, str], int, list[tuple[int, str, float]]]] = (
    deferred(_RUN_IMAGES, "confusion_cell")
)
_positions_by_id: Callable[..., dict[str, int]] = deferred(_RUN_IMAGES, "positions_by_id")


def show_result(workbench: Workbench, name: str) -> None:
    """What one wants to know first: the accuracy with its interval, and what it means."""
    folder = run_folder(workbench, name)
    found = read_run_file(folder / runs.EVALUATION, records.EvaluationFile)
    share = found["accuracy"]
    if has_several_labels(found):
        with panel(classes="gh-headline"):
            show_label_headline(found)
            text(_training_words(folder), "p", "gh-quiet")
        return
    with panel(classes="gh-headline"):
        with box("gh-row"):
            text(percent(share["value"], 1), "strong", "gh-accuracy")
            interval = f"{percent(share['low'], 1)} to {percent(share['high'], 1)}"
            with box("gh-stat", "dl"):
                text("Test accuracy, 95 % confidence interval", "dt")
                text(interval, "dd")
        text(result_sentence(found), "p")
        text(_training_words(folder), "p", "gh-quiet")


def result_sentence(found: EvaluationRecord) -> str:
    """The result in one sentence, compared with always predicting the most frequent class."""
    count, wrong = found["image_count"], found["mistake_count"]
    baseline = found["commonest_share"]
    of = pluralize(count, "test image")
    start = f"{count - wrong:,} of {of} are classified correctly"
    always = f"always predicting the most frequent class gets {round(baseline * count):,}"
    if found["accuracy"]["low"] <= baseline:
        return f"{start}, which does not show that anything was learned: {always}."
    return f"{start}; {always}."


def _training_words(folder: Path) -> str:
    run = runs.read_run(folder)
    data = run.environment["data"]
    if run.recipe.transfer.way == "features":
        how = f"heads fitted to features in {duration(run.seconds)}"
    else:
        how = f"{pluralize(len(run.epochs), 'epoch')} in {duration(run.seconds)}"
    return f"Recipe {run.recipe.name} on {data['source']}, {how}."


def show_results(workbench: Workbench, name: str) -> None:
    """Every panel of the evaluation of a run."""
    found = read_run_file(run_folder(workbench, name) / runs.EVALUATION, records.EvaluationFile)
    if has_several_labels(found):
        show_label_results(found)
        return
    with panel("Test metrics", f"{found['image_count']:,} test images, used only once"):
        stats(_metrics(found))
    with box("gh-columns gh-wide-left"):
        _confusion(workbench, name, found)
        with box("gh-stack"):
            _per_class(found)
            show_reliability(found)
    show_verdicts(workbench, name)
    _mistakes(workbench, name, found)


def _metrics(found: EvaluationRecord) -> dict[str, str]:
    top = {f"Top-{one['k']} accuracy": percent(one["accuracy"]["value"])
           for one in found["top_k"]}  # fmt: skip
    return {
        **top,
        "Mistakes": f"{found['mistake_count']:,}",
        "Baseline accuracy": percent(found["commonest_share"]),
        "Calibrated loss": f"{found['calibrated_loss']:.4f}",
        "Macro F1": percent(found["macro"]["f1"]),
    }


def _confusion(workbench: Workbench, name: str, found: EvaluationRecord) -> None:
    chosen = chosen_classes(found["confusion"], _MOST_CLASSES)
    names = [found["class_names"][i] for i in chosen]
    remark = "rows: true class, columns: predicted class; click a cell to see its images"
    if len(chosen) < len(found["class_names"]):
        remark = f"the {len(chosen)} most confused classes; click a cell to see its images"
    dialog = ui.dialog().classes("gh-dialog")
    longest = max(map(len, names), default=0)
    is_tall = longest > _SHORT_NAME
    with panel("Confusion matrix", remark), box() as whole:
        with box("gh-scroll"), box("gh-confusion", "table") as grid:
            grid.style(f"--name: {longest}ch")
            with box("", "thead"), box("", "tr").props("role=row"):
                text("", "th")
                for class_name in names:
                    with box("", "th").props("scope=col role=columnheader"):
                        text(class_name, "span", "gh-tall" if is_tall else "")
            with box("", "tbody"):
                for true, class_name in zip(chosen, names, strict=True):
                    row = found["confusion"][true]
                    with box("", "tr").props("role=row"):
                        text(class_name, "th").props("scope=row role=rowheader")
                        for predicted in chosen:
                            _cell(row, true, predicted, found["class_names"])
        # The script of the page moves the focus within a grid, which is one stop of the Tab key.
        first = grid.default_slot.children[1].default_slot.children[0].default_slot.children[1]
        first.props["tabindex"] = 0
        grid.props["role"] = "grid"
        grid.props["aria-label"] = "Confusion matrix: arrow keys move, Enter shows the images"
        _pairs(found)

    async def opened(event: GenericEventArguments) -> None:
        true, predicted = (int(part) for part in str(event.args).split("-"))
        await _open_cell(dialog, workbench, name, (true, predicted))

    whole.on(
        "click",
        opened,
        js_handler="(e) => { const c = e.target.closest('[data-cell]');"
        " if (c) emit(c.dataset.cell); }",
    )


def _pairs(found: EvaluationRecord) -> None:
    """The most confused pairs of classes, each of which opens its images."""
    positions = {class_name: i for i, class_name in enumerate(found["class_names"])}
    if found["confused_pairs"]:
        text("Most confused classes", "h3", "gh-pairs-title")
    with box("gh-pairs"):
        for pair in found["confused_pairs"][:_PAIRS]:
            if not {pair["true"], pair["predicted"]} <= set(positions):
                words = f"{runs.EVALUATION} names a pair of classes that it does not list."
                text(words, "p", "gh-bad")
                continue
            words = f"{pair['true']} classified as {pair['predicted']}: {pair['count']:,}"
            cell = f"{positions[pair['true']]}-{positions[pair['predicted']]}"
            text(words, "button", "gh-pair").props.update({"data-cell": cell, "type": "button"})


def chosen_classes(confusion: Sequence[Sequence[int]], most: int) -> list[int]:
    """All classes, or if there are too many, those with the most mistakes, in their order."""
    count = len(confusion)
    if count <= most:
        return list(range(count))
    wrong = [
        sum(confusion[i]) + sum(row[i] for row in confusion) - 2 * confusion[i][i]
        for i in range(count)
    ]
    return sorted(sorted(range(count), key=lambda i: -wrong[i])[:most])


def _cell(row: Sequence[int], true: int, predicted: int, names: Sequence[str]) -> None:
    count, of = row[predicted], sum(row) or 1
    what = "correct" if true == predicted else f"classified as {names[predicted]}"
    with box("", "td") as cell:
        cell.props["tabindex"] = -1
        cell.props.update({"role": "gridcell", "aria-label": f"{names[true]} {what}: {count}"})
    if not count:
        with cell:
            text("·", "span", "gh-none").props("aria-hidden=true")
        return
    colour = "accent" if true == predicted else "warm"
    share, is_strong = _strength(count / of)
    with cell:
        shown = text(str(count), "span", "gh-cell" + (" gh-strong" if is_strong else ""))
    shown.style(f"background: color-mix(in srgb, var(--{colour}) {share}%, transparent)")
    cell.props["data-cell"] = f"{true}-{predicted}"
    cell.props["title"] = f"{names[true]} {what}: {count}, {percentage(count / of, 1)} of the class"


def _strength(part: float) -> tuple[int, bool]:
    """How much colour a cell has, in percent, and whether that is much.

    Between 50 and 68 % no text is readable in both themes, so nothing is coloured like that.
    """
    shown = part**0.6
    return (round(12 + 68 * shown), False) if shown < 0.55 else (round(65.5 + 6.5 * shown), True)


async def _open_cell(
    dialog: ui.dialog, workbench: Workbench, name: str, cell: tuple[int, int]
) -> None:
    dialog.clear()
    with dialog, ui.card().classes("gh-card"):
        waiting = text("Loading images …", "p", "gh-quiet")
    dialog.open()
    try:
        found = await in_thread(_confusion_cell, workbench, name, cell, _PER_CELL)
    except GlasshouseError as error:
        waiting.text = str(error)
        return
    dialog.clear()
    names, count, images = found
    title, remark = _cell_words(names, count, len(images))
    with dialog, ui.card().classes("gh-card"):
        with box("gh-row gh-card-head"):
            text(title, "h2")
            text(remark, "span", "gh-quiet")
            close = ui.button(icon="close", color=None, on_click=dialog.close)
            close.props('flat round dense aria-label="Close"').classes("gh-push gh-theme")
        with box("gh-images"):
            for position, identity, confidence in images:
                plain_image(name, position, identity, f"{percentage(confidence, 0)} confidence")


def _cell_words(names: tuple[str, str], count: int, shown: int) -> tuple[str, str]:
    """The title and the remark above the images of a cell."""
    true, predicted = names
    is_correct = true == predicted
    title = f"{true}, classified correctly" if is_correct else f"{true} classified as {predicted}"
    remark = pluralize(count, "image")
    return title, remark if count == shown else f"the {shown} most confident of {remark}"


def _per_class(found: EvaluationRecord) -> None:
    rows = [
        (
            one["name"],
            f"{one['support']:,}",
            percent(one["precision"], 1),
            percent(one["recall"]["value"] if one["recall"] else None, 1),
            _range(one["recall"]),
            percent(one["f1"], 1),
        )
        for one in sorted(found["per_class"], key=lambda one: one["f1"] or 0.0)
    ]
    with panel("Classes", "lowest F1 first", classes="gh-limited"):
        table(("Class", "Images", "Precision", "Recall", "95 % CI", "F1"), rows)


def _range(interval: Mapping[str, float] | None) -> str:
    return "" if interval is None else f"{100 * interval['low']:.0f} – {100 * interval['high']:.0f}"


def _mistakes(workbench: Workbench, name: str, found: EvaluationRecord) -> None:
    worst = found["mistakes"][:_MISTAKES]
    if not worst:
        with panel("Most confident mistakes"):
            text("None: every test image is classified correctly.", "p", "gh-quiet")
        return
    remark = "with Grad-CAM maps of the predicted and the true class"
    with panel("Most confident mistakes", remark) as section:
        waiting = text("Loading images …", "p", "gh-quiet")
        grid = box("gh-mistakes")

    async def fill() -> None:
        try:
            positions = await in_thread(_positions_by_id, workbench, name)
        except GlasshouseError as error:
            waiting.text = f"Cannot show the images: {str(error).removesuffix('.')}."
            grid.delete()
            return
        waiting.delete()
        known = [mistake for mistake in worst if mistake["id"] in positions]
        with grid:
            for mistake in known:
                mapped_image(name, positions[mistake["id"]], mistake)
        if len(known) < len(worst):
            with section:
                missing = pluralize(len(worst) - len(known), "mistake")
                words = f"{missing} in {runs.EVALUATION} cannot be found in {runs.PREDICTIONS}."
                text(words, "p", "gh-bad")
        with section:
            # Common early in training; without the note it looks like an image that failed to load.
            note = "An image without an overlay: its map has no positive values."
            text(note, "p", "gh-note")

    ui.timer(0.05, fill, once=True)
