"""`glasshouse reproduce`: train a run again and compare the files byte by byte."""

import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, Reread, print_json

if TYPE_CHECKING:
    from glasshouse.workflow.compare.reproduce import Reproduction


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the new run in. Default: a temporary folder."),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Train RUN again and compare the results file by file; exit with code 1 if they differ."""
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError

    early_checks.require_finished([run])
    if out is not None and out.resolve() == run.resolve():
        raise UsageError(f"--out {out} is the run itself: name another folder")
    early_checks.require_folder_free_of_files(out)
    early_checks.reread_run(reread, run)
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
    """One line per file, the differences between the machines, and the verdict."""
    width = max(len(each.file) for each in found.files)
    lines = [
        f"{'agrees ' if each.agrees else 'DIFFERS'}  {each.file:<{width}}  {each.detail}"
        for each in found.files
    ]
    lines += [f"note: {difference}" for difference in found.environment]
    if found.agrees:
        return "\n".join([*lines, f"{found.run} is reproducible: every file agrees"])
    count = sum(not each.agrees for each in found.files)
    differing = "1 file differs" if count == 1 else f"{count} files differ"
    known = (
        "the notes above may explain why" if found.environment else "the records do not explain why"
    )
    return "\n".join([*lines, f"{found.run} was not reproduced: {differing}; {known}"])


def _reproduce(
    run: Path, out: Path, data_dir: Path | None, offline: bool, *, is_kept: bool = True
) -> "Reproduction":
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.workflow.compare.reproduce import reproduce as reproduce_run

    runner = partial(run_to_the_end, is_kept=is_kept)
    return reproduce_run(run, out, run=runner, data_dir=data_dir, offline=offline)


def _reproduce_for_now(run: Path, data_dir: Path | None, offline: bool) -> "Reproduction":
    """Reproduce in a temporary folder, whose path is therefore never printed."""
    from glasshouse.errors import Interrupted

    with tempfile.TemporaryDirectory(prefix="glasshouse-again-") as folder:
        try:
            found = _reproduce(run, Path(folder) / "run", data_dir, offline, is_kept=False)
        except Interrupted as stopped:
            raise Interrupted(
                "stopped; the temporary run was removed. With --out FOLDER the same command can be "
                "resumed.",
                stopped.exit_code - 128,
            ) from stopped
    return replace(found, again=None)
