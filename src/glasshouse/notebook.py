"""Notebooks: whether this is one, and what it shows."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (IPython on a terminal is none)."""
    # Not imported: a process that has not done so itself is no kernel.
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def display_in_notebook(html: str) -> Callable[[str], None]:
    """Show HTML below the current cell; the function that is returned replaces it."""
    shown: Any = import_module("IPython.display")
    handle = shown.display(shown.HTML(html), display_id=True)

    def replace(changed: str) -> None:
        handle.update(shown.HTML(changed))

    return replace


def html_for_notebook(noun: object) -> str:
    """What a notebook shows in place of a noun's text."""
    # The layer that draws imports the nouns; they find it by name, when something is displayed.
    drawn: str = import_module("glasshouse.report.noun_html").noun_html(noun)
    return drawn
