"""How a function reports progress, and where people see it: a terminal or a notebook."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# What is being done, how much is done, and how much there is.
Progress = Callable[[str, int, int], None]


@contextmanager
def live_bars() -> "Iterator[Bars]":
    """Live bars on standard error, cleared at the end; invisible where that is no terminal."""
    # Imported late, as below: importing the package must not wait for what only drawing needs.
    from rich.console import Console
    from rich.progress import BarColumn, Progress as Bars, TextColumn

    console = Console(stderr=True, force_jupyter=False)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}")
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


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
