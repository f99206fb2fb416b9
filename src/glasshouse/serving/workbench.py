"""What every page of the workbench knows, and what a page is."""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request

from glasshouse.errors import UsageError
from glasshouse.runs.folder import next_run_folder


@dataclass(frozen=True)
class Workbench:
    """What `glasshouse ui` was started with.

    runs: the folder with the run folders; it may not exist yet. read_only: nothing is started,
    stopped, uploaded to a data set or removed, and no source is read but those of the runs.
    """

    runs: Path
    data_dir: Path | None = None
    offline: bool = False
    read_only: bool = False

    def require_changes(self) -> None:
        """Raise UsageError if this workbench is read-only."""
        if self.read_only:
            raise UsageError("this workbench is read-only: it was started with --read-only")

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
    icon. routes: further routes that the page needs, for example of its images. makes_changes: what
    it is for is to start or write something, so a read-only workbench does not have it.
    """

    path: str
    title: str
    build: Callable[[Workbench, Request], Awaitable[None]]
    label: str = ""
    icon: str = ""
    routes: Callable[[Workbench], APIRouter] | None = None
    makes_changes: bool = False
