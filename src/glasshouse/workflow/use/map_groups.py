"""Groups of images that somebody has named on the map of a run, kept in its folder."""

from collections.abc import Sequence
from pathlib import Path

from glasshouse.errors import UsageError
from glasshouse.evaluation.data_map import DataMap, MapGroup, group_of, rows_with_ids
from glasshouse.runs import folder as runs, records
from glasshouse.runs.records import read_run_file
from glasshouse.storage import write_json
from glasshouse.wording import pluralize

_LONGEST_NAME, _MOST_GROUPS = 60, 200


def named_groups(run: Path, found: DataMap) -> tuple[MapGroup, ...]:
    """The groups that have been named, in that order, measured on a map.

    Raises StorageError where their file is damaged.
    """
    return tuple(
        group_of(found, name, rows_with_ids(found, ids)) for name, ids in _read(run).items()
    )


def name_group(run: Path, name: str, ids: Sequence[str]) -> None:
    """Keep images as a group of this name.

    Raises UsageError for no name or one that is taken or too long, and for no image.
    """
    words, groups = " ".join(name.split()), _read(run)
    if not 0 < len(words) <= _LONGEST_NAME:
        raise UsageError(
            f"a group needs a name of 1 to {_LONGEST_NAME} characters, received {len(words)}"
        )
    if words.casefold() in {each.casefold() for each in groups}:
        raise UsageError(f"there is a group named {words} already: choose another name")
    if not len(ids):
        raise UsageError("a group needs images: select some first")
    if len(groups) >= _MOST_GROUPS:
        raise UsageError(f"there are {pluralize(len(groups), 'group')} already: remove some first")
    _save(run, {**groups, words: [str(each) for each in ids]})


def remove_group(run: Path, name: str) -> None:
    """Forget a group; its images stay. Raises UsageError where there is none of this name."""
    groups = _read(run)
    if name not in groups:
        raise UsageError(f"there is no group named {name}")
    _save(run, {each: ids for each, ids in groups.items() if each != name})


def _read(run: Path) -> dict[str, list[str]]:
    path = run / runs.MAP_GROUPS
    if not path.is_file():
        return {}
    found = read_run_file(path, records.MapGroupsFile)
    return {each["name"]: each["images"] for each in found["groups"]}


def _save(run: Path, groups: dict[str, list[str]]) -> None:
    rows = [{"name": name, "images": ids} for name, ids in groups.items()]
    write_json(run / runs.MAP_GROUPS, {"groups": rows})
