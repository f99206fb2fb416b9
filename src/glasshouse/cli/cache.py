"""`glasshouse cache`: what the cache of images, features and copies holds, and how to empty it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import Json, print_json

if TYPE_CHECKING:
    from glasshouse.cache_contents import CacheEntry
    from glasshouse.cache_pruning import Removal


def cache(
    prune: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Remove what was not used for this long, such as 30d, 12h or 2w, or all.",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Remove the least recently used until at most this much is left, such as 5GB. "
            "GLASSHOUSE_CACHE_LIMIT sets a limit that is kept by every command.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the decoded images, features and copies of remote sources in the cache, or remove some.

    Nothing that a process uses is removed, and whatever is removed is made again when needed.
    """
    from glasshouse.cache_contents import list_cache
    from glasshouse.cache_pruning import (
        cache_limit,
        parse_age,
        parse_size,
        prune_cache,
        shrink_cache,
    )

    age = None if prune is None else parse_age(prune, "--prune")
    most = None if limit is None else parse_size(limit, "--limit")
    permanent = cache_limit()
    done = [] if age is None else [prune_cache(age)]
    done += [] if most is None else [shrink_cache(most)]
    left = list_cache()[::-1]
    if json:
        print_json(_facts(left, done, permanent))
        return
    if done:
        _print_removal(done)
    _print_list(left, permanent)


def _facts(
    left: "tuple[CacheEntry, ...]", done: "list[Removal]", permanent: int | None
) -> dict[str, Any]:
    from glasshouse.storage import cache_folder

    return {
        "folder": str(cache_folder()),
        "bytes": sum(entry.size for entry in left),
        "limit": permanent,
        "entries": [_as_json(entry) for entry in left],
        "removed": [_as_json(entry) for each in done for entry in each.removed],
        "kept": [{**_as_json(e), "reason": why} for each in done for e, why in each.kept],
    }


def _as_json(entry: "CacheEntry") -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "what": entry.what,
        "bytes": entry.size,
        "used": datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds"),
        "source": entry.source,
        "state": entry.state,
        "in_use": entry.is_used,
        "files": [str(path) for path in entry.files],
    }


def _print_removal(done: "list[Removal]") -> None:
    from glasshouse.wording import file_size, pluralize

    removed = [entry for each in done for entry in each.removed]
    freed = file_size(sum(entry.size for entry in removed))
    print(f"removed {pluralize(len(removed), 'entry', 'entries')}, {freed}")
    for entry, reason in dict(pair for each in done for pair in each.kept).items():
        print(f"kept {entry.what} ({file_size(entry.size)}): {reason}")


def _print_list(entries: "tuple[CacheEntry, ...]", permanent: int | None) -> None:
    from glasshouse.storage import cache_folder
    from glasshouse.wording import file_size, pluralize

    if not entries:
        print(f"the cache in {cache_folder()} is empty")
        return
    total = file_size(sum(entry.size for entry in entries))
    of = "" if permanent is None else f" of at most {file_size(permanent)}"
    count = pluralize(len(entries), "entry", "entries")
    print(f"{cache_folder()}: {total}{of} in {count}\n")
    lines = [("last used", "size", "what", "made from"), *map(_cells, entries)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for used, size, what, source in lines:
        row = f"{used:{widths[0]}}  {size:>{widths[1]}}  {what:{widths[2]}}  {source}"
        print(row.rstrip())


def _cells(entry: "CacheEntry") -> tuple[str, str, str, str]:
    from glasshouse.wording import file_size

    state = entry.state if entry.state != "complete" else "in use" if entry.is_used else ""
    if entry.kind == "leftover":
        state = ""  # its description says so
    return (
        datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M"),
        file_size(entry.size),
        f"{entry.what} ({state})" if state else entry.what,
        entry.source,
    )
