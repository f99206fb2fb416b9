"""`glasshouse check`: problems in a data set, found before training."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, Reread, Set, Source, print_json

if TYPE_CHECKING:
    from glasshouse.data.findings import Finding
    from glasshouse.workflow.use.source_check import Examination

_FILES_SHOWN, _GROUPS_SHOWN = 20, 3


def check(
    source: Source,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for check.html, which shows the images, and check.json."),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 3 on warnings too.")
    ] = False,
) -> None:
    """Check every image of SOURCE for problems before training.

    Exits with code 3 on errors, the problems that would invalidate the results; training refuses
    to start on them too.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.recipe import load_recipe

    settings = load_recipe("small-residual", set_ or ()).data
    early_checks.require_folder_free_of_files(out)
    early_checks.require_outside(out, source)
    early_checks.reread(reread, source)
    from glasshouse.workflow.use.source_check import examine, write_examination

    with data_progress() as progress:
        found = examine(source, settings, data_dir=data_dir, offline=offline, progress=progress)
    for note in _notes(found):
        say(f"note: {note}")
    if out is not None:
        say(f"report: {write_examination(found, out)}")
    if json:
        print_json([asdict(finding) for finding in found.findings])
    else:
        print_findings(found.findings)
    serious = {"error", "warning"} if strict else {"error"}
    if any(finding.level in serious for finding in found.findings):
        raise typer.Exit(3)


def _notes(found: "Examination") -> list[str]:
    """How the source was read, as training prints it, without what is a finding as well."""
    notes = found.splits.notes if found.splits else ()
    said = [finding.detail for finding in found.findings if finding.detail]
    return [note for note in notes if not any(detail in note for detail in said)]


def print_findings(findings: "Iterable[Finding]") -> None:
    """One line per finding, followed by the first images or files concerned."""
    for finding in findings:
        print(f"{finding.level:>7}  {finding.title}: {finding.detail}")
        for line in _names(finding):
            print(f"{'':>9}{line}")


def _names(finding: "Finding") -> list[str]:
    if finding.reasons:
        files = zip(finding.ids, finding.reasons, strict=True)
        return _first([f"{path}: {reason}" for path, reason in files], _FILES_SHOWN)
    if finding.groups:
        from glasshouse.data.findings import names_of

        return _first([names_of(group) for group in finding.groups], _GROUPS_SHOWN)
    names = ", ".join(finding.ids[:_GROUPS_SHOWN])
    more = (
        f" and {len(finding.ids) - _GROUPS_SHOWN} more" if len(finding.ids) > _GROUPS_SHOWN else ""
    )
    return [f"{names}{more}"] if names else []


def _first(lines: list[str], most: int) -> list[str]:
    more = len(lines) - most
    return [
        *lines[:most],
        *([f"and {more:,} more; see all with --out or --json"] if more > 0 else []),
    ]
