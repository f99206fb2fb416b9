"""`glasshouse train`: from images to a measured classifier."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    BACKBONE_RECIPE,
    DEFAULT_RECIPE,
    Backbone,
    DataDir,
    Json,
    Offline,
    Set,
    Source,
    Weights,
    overrides_of,
    print_json,
)

if TYPE_CHECKING:
    from glasshouse.workflow.train.experiment import Request
    from glasshouse.workflow.train.logs import LogName

BUDGET_RECIPE = "fast"


class OnBadFile(Enum):
    """What to do with a file that cannot be read."""

    ERROR = "error"
    SKIP = "skip"


RecipeName = Annotated[
    str | None,
    typer.Option(
        help=f"a recipe by name or a .toml file [{DEFAULT_RECIPE}; with --backbone "
        f"{BACKBONE_RECIPE}]"
    ),
]
Out = Annotated[Path | None, typer.Option(help="the run folder [runs/SOURCE-RECIPE-1, -2 ...]")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Seeds = Annotated[
    int | None,
    typer.Option(help="train with so many seeds, in OUT/seed-0 and on, and give the mean"),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="measure this machine and fit epochs, width and schedule to end in so many minutes, "
        f"all in all; without --recipe, of {BUDGET_RECIPE}"
    ),
]
Snapshots = Annotated[
    int,
    typer.Option(min=0, help="explain so many validation images after each epoch, as a strip"),
]
Bad = Annotated[OnBadFile | None, typer.Option(help="what to do with a file that cannot be read")]
Log = Annotated[
    list[str] | None,
    typer.Option(help="write the figures to tensorboard or mlflow too; may be repeated"),
]


def train(
    source: Source,
    recipe: RecipeName = None,
    set_: Set = None,
    backbone: Backbone = None,
    weights: Weights = None,
    out: Out = None,
    resume: Resume = False,
    seeds: Seeds = None,
    minutes: Minutes = None,
    snapshots: Snapshots = 0,
    on_bad_file: Bad = None,
    log: Log = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Train a classifier on SOURCE, measure it on the test split and write a report."""
    started = time.monotonic()
    from glasshouse.cli.experiments import fit_request, say_time_used
    from glasshouse.recipe import load_recipe
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.train.experiment import Request
    from glasshouse.workflow.train.logs import require_logs

    logs = require_logs(log or (), offline=offline)
    overrides = overrides_of(set_, backbone, weights)
    overrides += [f"data.on_bad_file={on_bad_file.value}"] if on_bad_file else []
    begun = _recipe_of(out) if resume else None
    if begun is not None and minutes is not None:
        # What was fitted then is what the run goes on with; the clock of that time has run out.
        recipe, overrides, minutes = begun, [], None
    usual = DEFAULT_RECIPE if backbone is None else BACKBONE_RECIPE
    usual = usual if minutes is None else BUDGET_RECIPE
    settings = load_recipe(recipe or begun or usual, overrides)
    name = f"{Path(source).stem}-{settings.name}{'' if minutes is None else f'-{minutes:g}min'}"
    folder = out or runs.next_run_folder(Path("runs"), name)
    command = shlex.join(["glasshouse", *sys.argv[1:]])
    request = Request(source, settings, folder, resume, data_dir, offline, command, snapshots)
    _require_epochs(request)
    if minutes is not None:
        fit = partial(fit_request, minutes=minutes, started=started, runs=seeds or 1)
        request = fit(request) if recipe else _fit_or_instead(fit, request, overrides)
    _train(request, seeds, logs, json)
    if minutes is not None:
        say_time_used(minutes, started)


def _require_epochs(request: "Request") -> None:
    from glasshouse.errors import UsageError

    if request.snapshots and request.recipe.transfer.way == "features":
        raise UsageError(
            "--snapshots needs epochs, but transfer.way = 'features' fits its heads in one go; use "
            "another way, or glasshouse explain RUN IMAGE afterwards"
        )


def _fit_or_instead(
    fit: "Callable[[Request], Request]", request: "Request", overrides: list[str]
) -> "Request":
    """Fit the usual recipe; where its net is not for images so small, the other usual one."""
    from dataclasses import replace

    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import ModelError
    from glasshouse.recipe import load_recipe

    try:
        return fit(request)
    except ModelError:
        say(f"the images are too small for {request.recipe.name}: {DEFAULT_RECIPE} instead")
        return fit(replace(request, recipe=load_recipe(DEFAULT_RECIPE, overrides)))


def _recipe_of(out: Path | None) -> str | None:
    """The recipe of the run to go on with, or of the first of its seeds; None before the start."""
    from glasshouse.errors import UsageError
    from glasshouse.runs import folder as runs

    if out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    found = [out / runs.RECIPE, *sorted(out.glob(f"seed-*/{runs.RECIPE}"), key=_seed_of)]
    return next((str(path) for path in found if path.is_file()), None)


def _seed_of(path: Path) -> int:
    number = path.parent.name.removeprefix("seed-")
    return int(number) if number.isdecimal() else 0


def _train(request: "Request", seeds: int | None, logs: "Sequence[LogName]", json: bool) -> None:
    from dataclasses import asdict

    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.cli.figures import format_seeds
    from glasshouse.evaluation.evaluation import to_json
    from glasshouse.workflow.compare.seeds import train_seeds

    run = partial(run_to_the_end, logs=logs)
    if seeds is None:
        result = run(request)
        if json:
            print_json({"run": str(request.out), **to_json(result.evaluation)})
        return
    summary = train_seeds(request, seeds, run)
    if json:
        print_json({"run": str(request.out), **asdict(summary)})
    else:
        print(format_seeds(summary))
