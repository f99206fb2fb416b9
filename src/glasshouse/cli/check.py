"""`glasshouse check`: what may be wrong with the pictures."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, Set, Source, print_json

if TYPE_CHECKING:
    from glasshouse.data.checks import Finding


def check(
    source: Source,
    set_: Set = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 on any warning.")] = False,
) -> None:
    """Look at every picture of SOURCE and say what may be wrong, before training."""
    from glasshouse.cli.progress import data_progress
    from glasshouse.data.checks import check as check_splits
    from glasshouse.data.sources import load_splits
    from glasshouse.recipe import load_recipe

    overrides = ["data.on_bad_file=skip", *(set_ or [])]
    settings = load_recipe("small-residual", overrides).data
    with data_progress() as progress:
        splits = load_splits(
            source, settings, data_dir=data_dir, offline=offline, progress=progress
        )
    findings = check_splits(splits)
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_findings(findings)
    serious = {"error", "warning"} if strict else {"error"}
    if any(finding.level in serious for finding in findings):
        raise typer.Exit(3)


def print_findings(findings: "Iterable[Finding]") -> None:
    """A line a finding, errors and warnings by name."""
    for finding in findings:
        print(f"{finding.level:>7}  {finding.title}: {finding.detail}")
