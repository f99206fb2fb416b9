"""Folders that may be listed for choosing a source: those below a few roots, and nothing else."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glasshouse.data.table import ENDINGS
from glasshouse.errors import UsageError
from glasshouse.serving.workbench import Workbench

_MOST_ENTRIES = 400


@dataclass(frozen=True)
class BrowsedFolder:
    """One folder: its subfolders, and the files that are tables.

    parent: None at a root. file_count: all files that are not hidden. is_cut: it holds more
    subfolders or tables than are listed.
    """

    path: Path
    parent: Path | None
    folders: tuple[str, ...]
    tables: tuple[str, ...]
    file_count: int
    is_cut: bool


def browse_roots(workbench: Workbench) -> dict[str, Path]:
    """The working folder, the home folder and the folder of data sets, as far as they exist."""
    wanted = {
        "Working folder": Path.cwd(),
        "Home": Path.home(),
        "Data sets": workbench.data_dir,
    }
    found = {name: path.resolve() for name, path in wanted.items() if path and path.is_dir()}
    by_path = {path: name for name, path in reversed(found.items())}
    return {name: path for name, path in found.items() if by_path[path] == name}


def browse(roots: Sequence[Path], folder: Path) -> BrowsedFolder:
    """List a folder; hidden entries and links that lead out of the roots are left out.

    Raises UsageError for a folder that lies outside the roots or cannot be read.
    """
    try:
        path = folder.resolve()
        if not path.is_dir() or not _is_below(roots, path):
            raise UsageError(f"{folder} is not a folder below {', '.join(map(str, roots))}")
        with os.scandir(path) as entries:
            seen = sorted((e for e in entries if not e.name.startswith(".")), key=_by_name)
        folders = [e.name for e in seen if e.is_dir() and _is_below(roots, Path(e.path).resolve())]
        files = [e.name for e in seen if e.is_file()]
    # A path from a field may hold what no path can: a null byte, or a loop of links.
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"Cannot read {folder}: {error}") from error
    tables = [name for name in files if Path(name).suffix.lower() in ENDINGS]
    return BrowsedFolder(
        path=path,
        parent=path.parent if _is_below(roots, path.parent) else None,
        folders=tuple(folders[:_MOST_ENTRIES]),
        tables=tuple(tables[:_MOST_ENTRIES]),
        file_count=len(files),
        is_cut=max(len(folders), len(tables)) > _MOST_ENTRIES,
    )


def _is_below(roots: Sequence[Path], path: Path) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _by_name(entry: "os.DirEntry[str]") -> str:
    return entry.name.casefold()
