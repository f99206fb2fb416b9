"""The building blocks of all pages."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from glasshouse.serving.relative import relative_root
from glasshouse.wording import name_parts, unbroken

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_OPTION = re.compile(r"((?<![\w-])--[\w-]+)")
# The icon of a verdict; its colour is that of the class gh-VERDICT.
MARKS = {"good": "check_circle", "doubtful": "error_outline", "note": "info_outline"}
# Columns of a table that fit next to each other on a phone, and those that fit below the first one.
_FEW, _MOST_IN_LINES = 4, 6
# Characters of a word such as "training", which fits where a number does.
_WORD = 8


async def in_thread(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
) -> Result:
    """Call a function in a thread; if the page is closed meanwhile, its task ends here, silently.

    What follows would add the result to elements that no longer exist.
    """
    client = ui.context.client
    try:
        return await asyncio.to_thread(function, *arguments, **options)
    finally:
        if client.is_deleted:
            # Also in place of an error of the function, which nobody would see.
            raise asyncio.CancelledError


async def connected() -> None:
    """Wait until the page is open in the browser; if it is closed before, its task ends here."""
    client = ui.context.client
    await client.connected()
    if client.is_deleted:
        raise asyncio.CancelledError


def text(words: str, kind: str = "span", classes: str = "") -> TextElement:
    """A text in an element of this kind; HTML in it is shown as text, never interpreted."""
    # What may be copied into a command or a recipe stays as it is.
    shown = words if kind in ("code", "pre") else unbroken(words)
    return TextElement(tag=kind, text=shown).classes(classes)


def breakable(words: str, kind: str, classes: str = "") -> None:
    """A text whose names and paths break between their parts, and whose options do not break."""
    with box(classes, kind):
        for whole, piece in enumerate(_OPTION.split(words)):
            if whole % 2:
                text(piece, "span", "gh-whole")
                continue
            for number, part in enumerate(name_parts(piece)):
                if number:
                    ui.element("wbr")
                text(part)


def name_field(words: str, field: Element) -> TextElement:
    """Put a label above a field and tie it to the field, for screen readers.

    A label element, because Quasar drops the aria-label of a select that cannot be typed into.
    """
    label = text(words, "label", "gh-label")
    field.props["for"] = label.props["for"] = f"field-{field.id}"
    field.move(target_index=-1)
    return label


def box(classes: str = "", kind: str = "div") -> Element:
    """An element that holds others; use it with `with`."""
    return ui.element(kind).classes(classes)


def relative(address: str) -> str:
    """An address of the workbench, relative to the current page: it may be behind any prefix."""
    request = ui.context.client.request
    return f"{relative_root(request.scope)}{address}" if address.startswith("/") else address


def link(words: str, address: str, classes: str = "") -> TextElement:
    """A link to another page; it can hold other elements too."""
    element = text(words, "a", classes)
    element.props["href"] = relative(address)
    return element


def image(address: str, description: str, classes: str = "") -> Element:
    """An image from this server; description: its alternative text."""
    element = ui.element("img").classes(classes)
    element.props.update({"src": relative(address), "alt": description, "loading": "lazy"})
    return element


def button(words: str, icon: str = "", *, main: bool = False) -> ui.button:
    """A button; main: the primary action of its panel."""
    element = ui.button(words, icon=icon or None, color=None)
    return element.props("no-caps unelevated").classes("gh-button" + (" gh-main" if main else ""))


def link_button(words: str, address: str, *, icon: str = "", main: bool = False) -> ui.button:
    """A link that looks like a button."""
    element = button(words, icon, main=main)
    element.props["href"] = relative(address)
    return element


def heading(words: str, remark: str = "") -> None:
    """The title of a page, with a line on what it shows."""
    with box("gh-heading"):
        breakable(words, "h1")
        if remark:
            text(remark, "p", "gh-quiet")


@contextmanager
def panel(title: str = "", remark: str = "", classes: str = "") -> Iterator[Element]:
    """A framed section of a page with a title of its own; use it with `with`."""
    with box(f"gh-panel {classes}", "section") as section:
        if title:
            with box("gh-panel-head"):
                text(title, "h2")
                if remark:
                    text(remark, "span", "gh-quiet")
        yield section


@contextmanager
def folded_panel(title: str, remark: str = "") -> Iterator[Element]:
    """A panel that is closed at first; a click or Enter on its title opens it."""
    with box("gh-panel gh-fold", "details") as section:
        with box("gh-panel-head", "summary"):
            text(title, "h2")
            text(remark, "span", "gh-quiet")
        yield section


def stats(values: Mapping[str, str]) -> None:
    """A row of values, each below its name."""
    with box("gh-stats", "dl"):
        for name, value in values.items():
            with box("gh-stat"):
                text(name, "dt")
                text(value, "dd")


def facts(values: Mapping[str, str]) -> None:
    """Names and values, one pair per line."""
    with box("gh-facts", "dl"):
        for name, value in values.items():
            text(name, "dt")
            breakable(value, "dd")


def table(names: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 1) -> Element:
    """A plain table; the columns from numbers_from on hold numbers and are right-aligned.

    On a phone, the first cell of a row of five has a line of its own, and a longer row is a card.
    """
    with box("gh-scroll") as whole, box(f"gh-table {phone_form(len(names))}", "table") as grid:
        texts = [] if numbers_from == 1 else [row[1] for row in rows]
        # A text needs more room than a number, unless it is a word.
        first = 1.4 if any(len(each) > _WORD for each in texts) else 1
        grid.style(f"--columns: {len(names) - 1}; --first: {first}fr")
        with box("", "thead"), box("", "tr"):
            for i, name in enumerate(names):
                text(name, "th", "gh-number" if i >= numbers_from else "").props("scope=col")
        with box("", "tbody"):
            for row in rows:
                with box("", "tr"):
                    for i, cell in enumerate(row):
                        number = "gh-number" if i >= numbers_from else ""
                        text(cell, "td", number).props["data-label"] = names[i]
    return whole


def phone_form(columns: int) -> str:
    """The class of a table with this number of columns, which decides how a phone shows it."""
    return "gh-cards" if columns > _MOST_IN_LINES else "gh-lines" if columns > _FEW else ""


def empty_state(
    title: str, words: str, *, icon: str = "", command: str = "", is_page: bool = False
) -> Element:
    """What to do when there is nothing to show yet.

    command: the equivalent command line. is_page: the page has no other title.
    """
    with box("gh-empty") as element:
        if icon:
            ui.icon(icon).props("aria-hidden=true")
        text(title, "h1" if is_page else "h2")
        text(words, "p")
        if command:
            text(command, "code")
    return element
