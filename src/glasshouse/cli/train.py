"""`glasshouse train`: from pictures to a measured classifier."""

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, Set, Source, print_json

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
    out: Annotated[
        Path | None, typer.Option(help="the run folder [runs/SOURCE-RECIPE-1, -2 ...]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    on_bad_file: Annotated[
        OnBadFile | None, typer.Option(help="what to do with a file that cannot be read")
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

    overrides = [*(set_ or []), *([f"data.on_bad_file={on_bad_file.value}"] if on_bad_file else [])]
    if resume and out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to go on with")
    if resume and out is not None and recipe is None and (out / runs.RECIPE).is_file():
        recipe = str(out / runs.RECIPE)
    settings = load_recipe(recipe or DEFAULT_RECIPE, overrides)
    name = f"{Path(source).stem}-{settings.name}"
    folder = out or runs.next_run_folder(Path("runs"), name)
    command = shlex.join(["glasshouse", *sys.argv[1:]])
    request = Request(source, settings, folder, resume, data_dir, offline, command)
    result = run_to_the_end(request)
    if json:
        print_json({"run": str(folder), **to_json(result.evaluation)})
