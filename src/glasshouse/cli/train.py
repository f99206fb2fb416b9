"""`glasshouse train`: from pictures to a measured classifier."""

import shlex
import sys
from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    Backbone,
    DataDir,
    Json,
    Offline,
    Set,
    Source,
    Weights,
    backbone_overrides,
    print_json,
)

if TYPE_CHECKING:
    from glasshouse.workflow.experiment import Request
    from glasshouse.workflow.logs import LogName

DEFAULT_RECIPE = "small-residual"


class OnBadFile(Enum):
    """What to do with a file that cannot be read."""

    ERROR = "error"
    SKIP = "skip"


def train(
    source: Source,
    recipe: Annotated[
        str | None, typer.Option(help=f"a recipe by name or a .toml file [{DEFAULT_RECIPE}]")
    ] = None,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option(help="the run folder [runs/SOURCE-RECIPE-1, -2 ...]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option(help="train with so many seeds, in OUT/seed-0 and on, and give the mean"),
    ] = None,
    snapshots: Annotated[
        int,
        typer.Option(
            min=0, help="explain so many validation pictures after each epoch, as a strip"
        ),
    ] = 0,
    on_bad_file: Annotated[
        OnBadFile | None, typer.Option(help="what to do with a file that cannot be read")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="write the figures to tensorboard or mlflow too; may be repeated"),
    ] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Train a classifier on SOURCE, measure it on the test split and write a report."""
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.errors import UsageError
    from glasshouse.evaluation.evaluation import to_json
    from glasshouse.recipe import load_recipe
    from glasshouse.workflow import runs
    from glasshouse.workflow.experiment import Request
    from glasshouse.workflow.logs import require_logs

    logs = require_logs(log or (), offline=offline)
    overrides = [*backbone_overrides(backbone, weights), *(set_ or [])]
    overrides += [f"data.on_bad_file={on_bad_file.value}"] if on_bad_file else []
    if resume and out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if resume and out is not None and recipe is None:
        recipe = _recipe_of(out)
    settings = load_recipe(recipe or DEFAULT_RECIPE, overrides)
    name = f"{Path(source).stem}-{settings.name}"
    folder = out or runs.next_run_folder(Path("runs"), name)
    command = shlex.join(["glasshouse", *sys.argv[1:]])
    request = Request(source, settings, folder, resume, data_dir, offline, command, snapshots)
    _require_epochs(request)
    if seeds is not None:
        _train_seeds(request, seeds, logs, json)
        return
    result = run_to_the_end(request, logs)
    if json:
        print_json({"run": str(folder), **to_json(result.evaluation)})


def _require_epochs(request: "Request") -> None:
    from glasshouse.errors import UsageError

    if request.snapshots and request.recipe.transfer.way == "features":
        raise UsageError(
            "--snapshots needs epochs, but transfer.way = 'features' fits its heads in one go; use "
            "another way, or glasshouse explain RUN IMAGE afterwards"
        )


def _recipe_of(out: Path) -> str | None:
    """The recipe of the run to go on with, or of the first of its seeds."""
    from glasshouse.workflow import runs

    found = [out / runs.RECIPE, *sorted(out.glob(f"seed-*/{runs.RECIPE}"), key=_seed_of)]
    return next((str(path) for path in found if path.is_file()), None)


def _seed_of(path: Path) -> int:
    number = path.parent.name.removeprefix("seed-")
    return int(number) if number.isdecimal() else 0


def _train_seeds(request: "Request", count: int, logs: "Sequence[LogName]", json: bool) -> None:
    from dataclasses import asdict

    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.cli.figures import format_seeds
    from glasshouse.workflow.seeds import train_seeds

    summary = train_seeds(request, count, partial(run_to_the_end, logs=logs))
    if json:
        print_json({"run": str(request.out), **asdict(summary)})
    else:
        print(format_seeds(summary))
