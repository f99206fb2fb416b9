"""`glasshouse reproduce`: a run's recipe again, and whether the bytes agree."""

import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, print_json

if TYPE_CHECKING:
    from glasshouse.workflow.compare.reproduce import Reproduction


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run folder")],
    out: Annotated[
        Path | None, typer.Option(help="keep the new run here [a temporary folder, removed]")
    ] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Run RUN's recipe again and say file by file whether it agrees; exit code 1 if not."""
    if out is not None:
        found = _reproduce(run, out, data_dir, offline)
    else:
        found = _reproduce_for_now(run, data_dir, offline)
    if json:
        print_json({**asdict(found), "agrees": found.agrees})
    else:
        print(format_reproduction(found))
    if not found.agrees:
        raise typer.Exit(1)


def format_reproduction(found: "Reproduction") -> str:
    """A line a file, what differs between the machines, and the verdict."""
    width = max(len(each.file) for each in found.files)
    lines = [
        f"{'agrees ' if each.agrees else 'DIFFERS'}  {each.file:<{width}}  {each.detail}"
        for each in found.files
    ]
    lines += [f"note: {difference}" for difference in found.environment]
    if found.agrees:
        return "\n".join([*lines, f"{found.run} can be reproduced: every file agrees"])
    count = sum(not each.agrees for each in found.files)
    known = "the notes above may be why" if found.environment else "nothing on record says why"
    return "\n".join([*lines, f"{found.run} was not reproduced: {count} files differ; {known}"])


def _reproduce(
    run: Path, out: Path, data_dir: Path | None, offline: bool, *, is_kept: bool = True
) -> "Reproduction":
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.workflow.compare.reproduce import reproduce as reproduce_run

    runner = partial(run_to_the_end, is_kept=is_kept)
    return reproduce_run(run, out, run=runner, data_dir=data_dir, offline=offline)


def _reproduce_for_now(run: Path, data_dir: Path | None, offline: bool) -> "Reproduction":
    """The same in a folder that is removed afterwards, whose path is worth nothing to anybody."""
    from glasshouse.errors import Interrupted

    with tempfile.TemporaryDirectory(prefix="glasshouse-again-") as folder:
        try:
            found = _reproduce(run, Path(folder) / "run", data_dir, offline, is_kept=False)
        except Interrupted as stopped:
            raise Interrupted(
                "stopped, and what was trained is removed. With --out FOLDER the same command goes "
                "on where it was stopped.",
                stopped.exit_code - 128,
            ) from stopped
    return replace(found, again=None)
