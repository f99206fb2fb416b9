"""How a function reports progress, and how a terminal shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# What is being done, how much is done, and how much there is.
Progress = Callable[[str, int, int], None]


@contextmanager
def live_bars() -> "Iterator[Bars]":
    """Live bars on standard error, cleared at the end; invisible where that is no terminal."""
    # Imported late: importing the package must not wait for what only drawing needs.
    from rich.console import Console
    from rich.progress import BarColumn, Progress as Bars, TextColumn

    console = Console(stderr=True, force_jupyter=False)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}")
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars
