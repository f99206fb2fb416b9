"""Which run `--resume` means, and what to say where there is none."""

import difflib
import shlex
from pathlib import Path

from glasshouse.errors import UsageError
from glasshouse.runs import folder as runs

# Where the command line puts runs by default, below the current folder.
_RUNS = Path("runs")
_NEAREST = 3


def recipe_to_resume(folder: Path) -> Path:
    """The recipe of the run in a folder, or of its first seed where it holds several.

    Raises UsageError, with the names of similar runs, where nothing has begun.
    """
    found = [folder / runs.RECIPE, *sorted(folder.glob(f"seed-*/{runs.RECIPE}"), key=_seed_of)]
    recipe = next((path for path in found if path.is_file()), None)
    if recipe is None:
        raise UsageError(
            f"--resume: {folder} {_why_nothing_to_resume(folder)}. {_did_you_mean(folder)} To "
            "start a new run, leave --resume out."
        )
    return recipe


def _why_nothing_to_resume(folder: Path) -> str:
    if runs.is_free(folder):
        what = "is empty" if folder.exists() else "does not exist"
        return f"{what}, so there is no run to resume"
    return f"is not a run folder: it has no {runs.RECIPE}"


def _did_you_mean(folder: Path) -> str:
    """A hint at runs with similar names, in the same place or where runs are by default."""
    places = (folder.parent, _RUNS, folder)
    known = [
        path.parent.parent if path.parent.match("seed-*") else path.parent
        for place in places
        for path in (*place.glob(f"*/{runs.RECIPE}"), *place.glob(f"*/seed-*/{runs.RECIPE}"))
    ]
    names = {path.name for path in known}
    near = difflib.get_close_matches(folder.name, names, n=_NEAREST, cutoff=0.6)
    paths = dict.fromkeys(str(path) for name in near for path in known if path.name == name)
    if paths:
        return f"Did you mean {' or '.join(f'--out {shlex.quote(path)}' for path in paths)}?"
    place = next((place for place in places if place.is_dir()), Path())
    return f"`{shlex.join(['glasshouse', 'runs', str(place)])}` lists the runs there."


def _seed_of(path: Path) -> int:
    number = path.parent.name.removeprefix("seed-")
    return int(number) if number.isdecimal() else 0
