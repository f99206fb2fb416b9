"""`glasshouse compare-backbones`: which pretrained network suits a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.options import (
    DataDir,
    Device,
    Json,
    Offline,
    On,
    Reread,
    Set,
    Source,
    overrides_of,
    print_json,
    with_shorthands,
)

if TYPE_CHECKING:
    from glasshouse.evaluation.intervals import Interval
    from glasshouse.settings import Recipe
    from glasshouse.workflow.compare.backbones import BackboneTable


def compare_backbones(
    source: Source,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            "-b",
            metavar="NAME[:KEY=VALUE,...]",
            help="A network, with weights=FILE, mean, std or input_size as further keys; "
            "repeatable.",
        ),
    ] = None,
    backbones: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Several networks in one option.")
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(help="A finished run on SOURCE to compare with; repeatable."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe that fits the heads.")] = "transfer-features",
    device: Device = None,
    set_: Set = None,
    on: On = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a page that compares every pair to this .html file.")
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Compare pretrained networks by fitting a head to the features of each.

    Heads are chosen on the validation split and measured on the test split, so run this once and
    decide: comparing again and again would fit the choice to the test split.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import data_progress, say
    from glasshouse.cluster.connection import require_address

    require_address(on)
    specs = [*(backbone or []), *_listed(backbones or "")]
    recipes = _recipes(recipe, specs, with_shorthands(set_, device=device), on, is_alone=not run)
    early_checks.require_source(source, offline=offline)
    early_checks.require_finished(run or ())
    early_checks.require_file_name(out, ".html")
    early_checks.reread(reread, source)
    from glasshouse.cli.on_cluster import piecework_on
    from glasshouse.report.run_report import write_comparison
    from glasshouse.workflow.compare.backbones import compare_backbones as compare
    from glasshouse.workflow.train.experiment import TrainRequest

    first = next(iter(recipes.values()))
    request = TrainRequest(source, first, Path(), data_dir=data_dir, offline=offline)
    with piecework_on(on, first.train.device) as piecework, data_progress() as progress:
        table = compare(
            request, recipes, run_folders=run or (), progress=progress, piecework=piecework
        )
    if json:
        print_json(_facts(table))
    else:
        print(_text(table))
    if out is not None:
        write_comparison(table.comparisons, out)
        say(f"report: {out}")


def _listed(backbones: str) -> list[str]:
    """The networks of a list; commas also separate keys, and the values of one, of a network.

    "a,b:mean=0.5,0.4,0.3,std=0.2,c" are a, b with its keys, and c.
    """
    specs: list[str] = []
    for part in backbones.split(",") if backbones else []:
        is_key = "=" in part and ":" not in part.partition("=")[0]
        # Names of networks begin with a letter.
        is_value = part[:1].isdigit() or part[:1] in ("-", ".")
        if specs and (is_key or is_value):
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return specs


def _names(specs: list[str]) -> list[str]:
    """The bare names, and the whole specification of networks that are given twice."""
    bare = [spec.partition(":")[0] for spec in specs]
    return [name if bare.count(name) == 1 else spec
            for name, spec in zip(bare, specs, strict=True)]  # fmt: skip


def _recipes(
    base: str, specs: list[str], overrides: list[str], on: str | None, *, is_alone: bool
) -> "dict[str, Recipe]":
    """The recipe of each network by name; is_alone: there is no run to compare one with."""
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError
    from glasshouse.recipe import load_with_effect

    found = {
        name: load_with_effect(base, overrides_of(overrides, spec))
        for name, spec in zip(_names(specs), specs, strict=True)
    }
    if not found:
        raise UsageError("compare-backbones needs --backbones A,B,C or --backbone NAME")
    if is_alone and len(found) < 2:
        raise UsageError("compare-backbones needs two networks or more, or one and --run RUN")
    for each in found.values():
        early_checks.require_recipe(each, on)
    return found


def _text(table: "BackboneTable") -> str:
    from glasshouse.cli.metrics_text import metric_interval

    def score(value: "Interval") -> str:
        return metric_interval(table.metric, value)

    heading = f"test {table.metric}, 95 % interval"
    lines = [("network", heading, "input", "parameters", "features", "head")]
    for row in table.backbones:
        lines.append(
            (row.name, score(row.score), f"{row.input_size}", f"{row.parameters:,}",
             f"{row.feature_seconds:.1f} s", f"{row.head_seconds:.1f} s, {row.head}")
        )  # fmt: skip
    lines += [(name, score(a), "", "", "", "a run") for name, a in table.runs.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
            for line in lines]  # fmt: skip
    return "\n".join([*rows, "", *(comparison.verdict for comparison in table.comparisons)])


def _facts(table: "BackboneTable") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "backbones": [asdict(row) for row in table.backbones],
        "metric": table.metric,
        "runs": {name: asdict(score) for name, score in table.runs.items()},
        "comparisons": [
            {
                "first": c.first,
                "second": c.second,
                "difference": asdict(c.difference),
                "p": c.p,
                "p_adjusted": c.p_adjusted,
                "verdict": c.verdict,
            }
            for c in table.comparisons
        ],
    }
