"""The contents of the page Data: a source, the findings of its check, and the images."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from urllib.parse import urlencode

import numpy as np
from fastapi import Request
from nicegui import ui

from glasshouse.data.findings import Finding, by_split
from glasshouse.data.images import BadFile, Splits
from glasshouse.data.sources import has_own_size, read_again
from glasshouse.errors import GlasshouseError
from glasshouse.report.data_report import class_rows, verdict
from glasshouse.runs.listing import RunListing
from glasshouse.serving.check_cache import CachedCheck, check_cache_of
from glasshouse.serving.pages.parts import (
    box,
    breakable,
    button,
    connected,
    empty_state,
    heading,
    image,
    in_thread,
    link,
    panel,
    stats,
    table,
    text,
)
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import pluralize

_OFFERED = ("digits", "shapes", "cifar10")
_GROUPS_PER_STEP, _SAMPLES_SHOWN, _FILES_SHOWN, _CLASSES_SHOWN = 12, 40, 200, 60
_PER_GROUP = 6
_ICONS = {"error": "block", "warning": "warning_amber", "info": "info_outline"}


async def fill(workbench: Workbench, request: Request) -> None:
    """A field for the source, and below it the results of its check."""
    source = request.query_params.get("source", "").strip()
    heading("Data", "Check images for problems before training on them.")
    _chooser(workbench, source)
    if not source:
        empty_state(
            "No source selected",
            "Enter a folder with one folder per class, a .csv table with the columns path and "
            "label, or the name of a built-in data set. On the command line:",
            icon="fact_check",
            command="glasshouse check FOLDER --out report",
        )
        return
    again = request.query_params.get("again", "")
    with box("gh-data") as place:
        try:
            found = await _examined(workbench, source, again)
        finally:
            if not place.is_deleted:
                place.clear()
        with place:
            _show(found)


async def _examined(workbench: Workbench, source: str, again: str) -> CachedCheck:
    """Check in a thread, showing the progress; again: "1", or "reread" for unchanged files too."""
    state = {"words": "Checking the images …"}

    def progress(what: str, done: int, total: int) -> None:
        state["words"] = f"{what[0].upper()}{what[1:]}: {done:,} of {total:,}"

    with box("gh-waiting").props("role=status"):
        ui.spinner(size="28px").props("aria-hidden=true")
        words = text(state["words"])
        timer = ui.timer(0.3, lambda: words.set_text(state["words"]))
    await connected()
    try:
        if again == "reread":
            # What cannot be listed is a finding of the check that follows.
            with suppress(GlasshouseError):
                await in_thread(read_again, source)
        kept = check_cache_of(workbench)
        return await in_thread(kept.get, source, progress, again=bool(again))
    finally:
        timer.cancel()


def _chooser(workbench: Workbench, source: str) -> None:
    used = [run.source for run in RunListing(workbench.runs).read() if run.source]
    offered = list(dict.fromkeys([*used, *_OFFERED]))

    def go() -> None:
        if field.value.strip():
            query = {"source": field.value.strip()}
            again = {"again": "1"} if query["source"] == source else {}
            ui.navigate.to(f"/data?{urlencode({**query, **again})}")

    with box("gh-panel gh-source", "section"):
        with box("gh-row"):
            field = ui.input(value=source, placeholder="folder, .csv table or data set").props(
                'outlined dense aria-label="Source"'
            )
            field.classes("gh-entry").on("keydown.enter", go)
            button("Check again" if source else "Check", "fact_check", main=True).on_click(go)
            if source and not has_own_size(source):
                query = urlencode({"source": source, "again": "reread"})
                whole = link("Read all files again", f"/data?{query}", "gh-pill")
                whole.tooltip("as --reread: also files whose size and time have not changed")
        with box("gh-row gh-sources"):
            for name in offered[:8]:
                chip = link(name, f"/data?{urlencode({'source': name})}", "gh-pill")
                chip.props("aria-current=page" if name == source else "")


def _show(found: CachedCheck) -> None:
    findings, splits = found.examination.findings, found.splits
    if splits is not None:
        with panel():
            counts = {part: f"{len(images):,}" for part, images in by_split(splits).items()}
            stats(
                {
                    **counts,
                    "classes": f"{len(splits.class_names):,}",
                    "size": f"{splits.train.width}x{splits.train.height}",
                    "unreadable": f"{len(splits.bad_files):,}",
                }
            )
    with panel("Findings", verdict(findings)):
        for finding in findings:
            # The panel with the class balance shows them.
            if finding.kind != "counts":
                _finding(finding, found)
    if splits is None:
        return
    with box("gh-columns"):
        with panel("Class balance"):
            _balance(splits)
        with panel("Samples"):
            _samples(found, splits)
    if splits.bad_files:
        with panel("Unreadable files", pluralize(len(splits.bad_files), "file")):
            _bad_files(splits.bad_files)


def _finding(finding: Finding, found: CachedCheck) -> None:
    with box(f"gh-finding gh-{finding.level}", "article"):
        ui.icon(_ICONS[finding.level]).props(f'role=img aria-label="{finding.level}"')
        with box():
            text(finding.title, "h3")
            text(finding.detail, "p", "gh-quiet")
            groups = finding.groups or tuple((name,) for name in finding.ids)
            rows = [
                [found.row_of[name] for name in group if name in found.row_of] for group in groups
            ]
            rows = [group for group in rows if group]
            if rows:
                is_short = bool(finding.groups) or len(rows) <= _GROUPS_PER_STEP
                is_open = is_short and finding.level != "info"
                _groups(rows, found, is_open=is_open, are_pairs=bool(finding.groups))
            if finding.formula:
                with box("gh-more", "details"):
                    text("How this is decided", "summary")
                    text(finding.formula, "p", "gh-quiet")


def _groups(
    groups: Sequence[Sequence[int]], found: CachedCheck, *, is_open: bool, are_pairs: bool
) -> None:
    """Groups of images next to each other, a dozen at a time."""
    left = iter(groups)
    shown = 0

    def show_some() -> None:
        nonlocal shown
        with place:
            for group in islice(left, _GROUPS_PER_STEP):
                _group(group, found)
                shown += 1
        more.set_visibility(shown < len(groups))
        more.set_text(f"Show more ({len(groups) - shown:,} left)")

    with box("gh-more", "details").props("open" if is_open else ""):
        text(_what(groups, are_pairs=are_pairs), "summary")
        place = box("gh-sides" if are_pairs else "gh-gallery", "ul")
        more = button("", "expand_more").on_click(show_some)
        show_some()


def _what(groups: Sequence[Sequence[int]], *, are_pairs: bool) -> str:
    if not are_pairs:
        return f"Show {pluralize(len(groups), 'image')}"
    noun = "pair" if all(len(group) == 2 for group in groups) else "group"
    return f"Show {pluralize(len(groups), noun)}"


def _group(rows: Sequence[int], found: CachedCheck) -> None:
    with box("", "li"):
        for row in rows[:_PER_GROUP]:
            _figure(found, row)
        if len(rows) > _PER_GROUP:
            text(f"and {len(rows) - _PER_GROUP} more", "span", "gh-quiet")


def _figure(found: CachedCheck, row: int) -> None:
    part, images, place = found.locate(row) or ("", None, 0)
    assert images is not None
    name, label = str(images.ids[place]), images.label_text(place)
    with box("", "figure"):
        _image(found, row, f"{name}: {label} in {part}")
        with box("", "figcaption"):
            text(label)
            breakable(f"{part} · {name}", "span", "gh-quiet")


def _image(found: CachedCheck, row: int, description: str) -> None:
    small = "gh-pixels" if found.splits and max(found.splits.train.pixels.shape[2:]) < 100 else ""
    image(f"/data/{found.key}/{row}", description, small)


def _balance(splits: Splits) -> None:
    """One bar per class, divided into the three splits."""
    with box("gh-legend"):
        for number, part in enumerate(by_split(splits)):
            with box("", "span"):
                box(f"gh-split-{number}", "i")
                text(part)
    rows = class_rows(splits)
    with box("gh-scroll gh-bounded"), box("gh-bars", "table"), box("", "tbody"):
        for row in rows[:_CLASSES_SHOWN]:
            total = sum(row.counts)
            with box("", "tr"):
                text(row.name, "th").props("scope=row")
                with box("", "td"), box("gh-bar").props("aria-hidden=true"):
                    for number, count in enumerate(row.counts):
                        share = 100 * row.share * count / max(1, total)
                        box(f"gh-split-{number}", "i").style(f"width:{share:.2f}%")
                parts = " · ".join(f"{count:,}" for count in row.counts)
                text(f"{total:,}", "td", "gh-number").props["title"] = parts
    if len(rows) > _CLASSES_SHOWN:
        text(f"and {len(rows) - _CLASSES_SHOWN} more classes", "p", "gh-quiet")


def _samples(found: CachedCheck, splits: Splits) -> None:
    """Some images of a class, at the input size of the network."""
    with box("gh-row"):
        chosen = ui.select(dict(enumerate(splits.class_names)), value=0, label="Class").props(
            "outlined dense options-dense"
        )
        chosen.classes("gh-select gh-class")
        part = ui.toggle(list(by_split(splits)), value="train").props("no-caps dense unelevated")
    place = box("gh-samples")

    def show() -> None:
        images = by_split(splits)[str(part.value)]
        before = {"train": 0, "validation": len(splits.train)}.get(
            str(part.value), len(splits.train) + len(splits.validation)
        )
        rows = images.rows_with(int(chosen.value or 0))
        kept = rows[np.linspace(0, len(rows) - 1, min(_SAMPLES_SHOWN, len(rows))).astype(int)]
        place.clear()
        with place:
            for row in kept.tolist():
                _image(found, before + row, f"{images.ids[row]}")
            if not len(kept):
                text("No images of this class in this split.", "p", "gh-quiet")

    chosen.on_value_change(show)
    part.on_value_change(show)
    show()


def _bad_files(bad_files: Sequence[BadFile]) -> None:
    rows = [(bad.path, bad.reason) for bad in bad_files[:_FILES_SHOWN]]
    table(("File", "Reason"), rows, numbers_from=2).classes("gh-bounded gh-wrap")
    if len(bad_files) > _FILES_SHOWN:
        text(
            f"and {len(bad_files) - _FILES_SHOWN:,} more; `glasshouse check --json` lists all.",
            "p",
            "gh-quiet",
        )
