"""`glasshouse ladder`: what each training technique gains on a data set."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    BatchSize,
    DataDir,
    Device,
    ImageSize,
    Json,
    Offline,
    On,
    Reread,
    Set,
    Source,
    print_json,
    with_shorthands,
)
from glasshouse.wording import pluralize

if TYPE_CHECKING:
    from glasshouse.report.ladder_report import Ladder, LadderRow

# The recipe of the first step: overrides that it refuses are refused without a wait.
FIRST_RECIPE = "tutorial-basic-no-augment"


def ladder(
    source: Source,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs per step.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per step, each with its own seed.")] = 3,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    device: Device = None,
    set_: Set = None,
    on: On = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the runs and the report. Default: runs/SOURCE-ladder."),
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Add one technique at a time under the same budget and measure what each gains.

    Running the same command again resumes where it stopped.
    """
    from dataclasses import asdict

    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.cluster.connection import require_address
    from glasshouse.data.sources import source_name
    from glasshouse.recipe import load_recipe
    from glasshouse.runs.folder import LADDER_PAGE

    require_address(on)

    folder = out or early_checks.runs_folder(source) / f"{source_name(source)}-ladder"
    overrides = with_shorthands(set_, batch_size=batch_size, image_size=image_size, device=device)
    early_checks.require_recipe(load_recipe(FIRST_RECIPE, overrides), on)
    early_checks.require_folder_free_of_files(folder)
    early_checks.require_outside(out, source)
    if not folder.exists():
        early_checks.require_source(source, offline=offline)
    early_checks.reread(reread, source)
    from glasshouse.cli.on_cluster import runner_on
    from glasshouse.workflow.compare.ladder import RUNGS, climb, ladder_requests
    from glasshouse.workflow.train.experiment import TrainRequest

    recipe = load_recipe(RUNGS[0].recipe, [f"train.epochs={epochs}"])
    command = shlex.join(["glasshouse", *sys.argv[1:]])
    request = TrainRequest(
        source, recipe, folder, resume=True, data_dir=data_dir, offline=offline, command=command
    )
    with runner_on(on, ladder_requests(request, overrides=overrides, seeds=seeds)) as run:
        found = climb(
            request, overrides=overrides, seeds=seeds, run=run,
            on_step=lambda so_far: say(f"\n{_line(so_far.rows[-1])}\n"),
        )  # fmt: skip
    if json:
        print_json({**asdict(found), "folder": str(folder)})
    else:
        print(format_ladder(found))
    say(f"report: {folder / LADDER_PAGE}")


def format_ladder(found: "Ladder") -> str:
    """One line per step, then the overall gain."""
    from glasshouse.report.ladder_report import lead, metric_of

    score = f"test {metric_of(found)}, 95 % interval"
    widths = max(len(row.name) for row in found.rows), len(score)
    heading = f"{'step':<{widths[0]}}  {score}  seconds  gain over the step before"
    note = (
        f"{pluralize(found.epochs, 'epoch')} and {pluralize(found.seeds, 'seed')} per step, "
        f"{pluralize(found.image_count, 'test image')}; gains are paired by seed and image."
    )
    if found.seeds == 1:
        note += " With a single seed, the intervals do not include the variation between seeds."
    return "\n".join([heading, *(_line(row, *widths) for row in found.rows), lead(found), note])


def _line(row: "LadderRow", width: int = 0, score_width: int = 0) -> str:
    from glasshouse.cli.metrics_text import metric_interval
    from glasshouse.report.ladder_report import gain_text, seconds_text

    if row.score is None:
        return f"{row.name:<{width}}  {row.problem}"
    score = metric_interval(row.metric, row.score)
    return f"{row.name:<{width}}  {score:<{score_width}}  {seconds_text(row):>7}  {gain_text(row)}"
