"""What every page of the workbench knows, and what a page is."""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request

from glasshouse.runs.folder import next_run_folder


@dataclass(frozen=True)
class Workbench:
    """What `glasshouse ui` was started with.

    runs: the folder with the run folders; it may not exist yet.
    """

    runs: Path
    data_dir: Path | None = None
    offline: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The same options for a command that the workbench starts."""
        where = ("--data-dir", str(self.data_dir)) if self.data_dir else ()
        return (*where, "--offline") if self.offline else where

    @property
    def first_command(self) -> str:
        """A command that trains a first run, which these pages then show."""
        folder = str(next_run_folder(self.runs, "digits").resolve())
        return shlex.join(["glasshouse", "train", "digits", "--out", folder])


@dataclass(frozen=True)
class Page:
    """One page; build fills it, with the path and query parameters in the request.

    label: its name in the navigation; empty: it is reached from other pages only. icon: a Material
    icon. routes: further routes that the page needs, for example of its images.
    """

    path: str
    title: str
    build: Callable[[Workbench, Request], Awaitable[None]]
    label: str = ""
    icon: str = ""
    routes: Callable[[Workbench], APIRouter] | None = None
