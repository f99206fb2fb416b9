"""`glasshouse train`: from images to a classifier with a report."""

import shlex
import sys
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli import processes as together
from glasshouse.cli.options import (
    BACKBONE_RECIPE,
    DEFAULT_RECIPE,
    Backbone,
    BatchSize,
    DataDir,
    Device,
    Epochs,
    ImageSize,
    Json,
    LearningRate,
    Net,
    Offline,
    On,
    Reread,
    Set,
    Source,
    Weights,
    overrides_of,
    print_json,
    with_shorthands,
)

if TYPE_CHECKING:
    from glasshouse.settings import Recipe as Settings
    from glasshouse.workflow.train.experiment import TrainRequest

# For --minutes, alone and with --backbone: the rates of `fast` would ruin trained filters.
BUDGET_RECIPE, TUNED_RECIPE = "fast", "transfer-full"


class OnBadFile(Enum):
    """What to do with a file that cannot be read."""

    ERROR = "error"
    SKIP = "skip"


RecipeName = Annotated[
    str | None,
    typer.Option(
        help=f"Name of a recipe, or a .toml file. Default: {DEFAULT_RECIPE}, with --backbone "
        f"{BACKBONE_RECIPE}."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder. Default: runs/SOURCE-RECIPE-1, then -2 and so on."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume the run in --out, also with more --epochs.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train with this many seeds, in OUT/seed-0, OUT/seed-1 and so on, and report the "
        "mean.",
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Time budget for the whole command: benchmark this machine, then choose epochs, width "
        f"and schedule to fit. Default recipe: {BUDGET_RECIPE}, with --backbone {TUNED_RECIPE}."
    ),
]
Snapshots = Annotated[
    int,
    typer.Option(min=0, help="Explain this many validation images after each epoch."),
]
Bad = Annotated[
    OnBadFile | None, typer.Option(help="What to do with an image file that cannot be read.")
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train in this many processes on this machine, or with --on on a cluster: a "
        "power of two that divides train.shards. The result has the same bytes for any number.",
    ),
]
Log = Annotated[
    list[str] | None,
    typer.Option(help="Copy the metrics to tensorboard or mlflow as well; repeatable."),
]


def train(
    source: Source,
    recipe: RecipeName = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    image_size: ImageSize = None,
    device: Device = None,
    set_: Set = None,
    backbone: Backbone = None,
    net: Net = None,
    weights: Weights = None,
    out: Out = None,
    resume: Resume = False,
    seeds: Seeds = None,
    minutes: Minutes = None,
    snapshots: Snapshots = 0,
    processes: Processes = None,
    on: On = None,
    on_bad_file: Bad = None,
    log: Log = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Train a classifier on SOURCE, evaluate it on the test split and write a report."""
    started = time.monotonic()
    from glasshouse.workflow.train.log_names import require_logs

    if _is_done_elsewhere(on, seeds, minutes, processes):
        return
    resume = resume or together.was_restarted(out)
    logs = require_logs(log or (), offline=offline)
    set_ = with_shorthands(
        set_, epochs=epochs, batch_size=batch_size, lr=lr, image_size=image_size, device=device
    )
    overrides = _overrides(set_, net, backbone, weights, on_bad_file, minutes)
    begun = _recipe_of(out, seeds) if resume else None
    if begun is not None and minutes is not None:
        # A resumed run keeps the plan that was made for it; its time budget has long run out.
        recipe, overrides, minutes = begun, [], None
    settings = _settings(recipe or begun or _usual_recipe(backbone, minutes), overrides)
    _require_work_for_cluster(settings, on, seeds, processes)
    _require_fitting(settings, snapshots, net, minutes, processes if on else None)
    _require_places(source, settings, out, on, resume, offline, reread)
    from glasshouse.cli.experiments import fit_request, say_time_used
    from glasshouse.workflow.train.experiment import TrainRequest

    request = TrainRequest(
        source, settings, out or _new_folder(source, settings, minutes),
        resume=resume, data_dir=data_dir, offline=offline, snapshots=snapshots, logs=logs,
        command=shlex.join(["glasshouse", *sys.argv[1:]]),
        may_run_code=net is not None, weights=weights if net else None,
    )  # fmt: skip
    if minutes is None:
        _train(request, seeds, json, on, processes)
        return
    fit = partial(fit_request, minutes=minutes, started=started, runs=seeds or 1)
    _train(fit(request) if recipe else _fit_or_instead(fit, request, overrides), seeds, json)
    say_time_used(minutes, started)


def _overrides(
    set_: list[str],
    net: str | None,
    backbone: str | None,
    weights: Path | None,
    on_bad_file: OnBadFile | None,
    minutes: float | None,
) -> list[str]:
    """The recipe overrides that the options stand for."""
    from glasshouse.errors import UsageError

    bad_file = [f"data.on_bad_file={on_bad_file.value}"] if on_bad_file else []
    if net is None:
        return [*overrides_of(set_, backbone, weights), *bad_file]
    for option, value in (("--backbone", backbone), ("--minutes", minutes)):
        if value is not None:
            raise UsageError(f"--net and {option} each choose a network: use one of them")
    return [*_code_overrides(net), *set_, *bad_file]


def _code_overrides(net: str) -> list[str]:
    """The recipe overrides that --net stands for."""
    from json import dumps

    from glasshouse.models.net_arguments import parsed_arguments

    place, colon, rest = net.partition(":")
    text = rest.partition(":")[2]
    size = parsed_arguments(net, text).get("input_size") if text else None
    # A run may be resumed from another folder.
    whole = f"{Path(place).resolve()}{colon}{rest}" if place.endswith(".py") else net
    sizes = [] if size is None else [f"data.image_size={size}"]
    return [f"model.code={dumps(whole)}", *sizes]


def _require_named_code(recipe: "Settings", net: str | None) -> None:
    """Raise UsageError for code that only a recipe or a run names."""
    from glasshouse.errors import UsageError

    if recipe.model.code is not None and net is None:
        raise UsageError(
            f"the network is code of a user's own, which runs only where the command names it: "
            f"add --net {recipe.model.code}"
        )


def _settings(recipe: str, overrides: list[str]) -> "Settings":
    """The recipe of a run, as it is from any folder."""
    from glasshouse.recipe import load_with_effect

    return _with_whole_path(load_with_effect(recipe, overrides))


def _with_whole_path(recipe: "Settings") -> "Settings":
    """The recipe with the path of its weights, if they are a file, as it is from any folder."""
    pretrained = recipe.model.pretrained
    if pretrained is None or pretrained.weights in ("usual", "none"):
        return recipe
    whole = pretrained.model_copy(update={"weights": str(Path(pretrained.weights).resolve())})
    model = recipe.model.model_copy(update={"pretrained": whole})
    return recipe.model_copy(update={"model": model})


def _usual_recipe(backbone: str | None, minutes: float | None) -> str:
    if minutes is None:
        return DEFAULT_RECIPE if backbone is None else BACKBONE_RECIPE
    return BUDGET_RECIPE if backbone is None else TUNED_RECIPE


def _is_done_elsewhere(
    on: str | None, seeds: int | None, minutes: float | None, processes: int | None
) -> bool:
    """Whether other processes have done the command.

    Raises UsageError for options that do not go together with a cluster.
    """
    from glasshouse.cluster.connection import require_address
    from glasshouse.errors import UsageError

    require_address(on)
    if on is None:
        return together.is_done_elsewhere(processes)
    if minutes is not None:
        raise UsageError("--minutes measures this machine: use it without --on")
    if seeds is not None and processes is not None:
        raise UsageError(
            "--on trains each seed in one process: use --seeds or --processes, not both"
        )
    return False


def _require_work_for_cluster(
    recipe: "Settings", on: str | None, seeds: int | None, processes: int | None
) -> None:
    """Raise UsageError for a training with nothing in it that a cluster could be dealt."""
    from glasshouse.errors import UsageError

    is_dealt = seeds is not None or processes is not None or recipe.transfer.way == "features"
    if on is not None and not is_dealt:
        raise UsageError(
            "--on trains several runs at the same time, or one in several processes: add --seeds N "
            "or --processes N"
        )


def _new_folder(source: str, recipe: "Settings", minutes: float | None) -> Path:
    from glasshouse.cli import early_checks
    from glasshouse.data.sources import source_name
    from glasshouse.runs.holding import hold_new_folder

    budget = "" if minutes is None else f"-{minutes:g}min"
    parent = early_checks.runs_folder(source)
    early_checks.require_folder_free_of_files(parent)
    return hold_new_folder(parent, f"{source_name(source)}-{recipe.name}{budget}")


def _prepare_source(source: str, out: Path | None, reread: bool) -> None:
    from glasshouse.cli import early_checks

    early_checks.require_outside(out, source)
    early_checks.reread(reread, source)


def _require_fitting(
    recipe: "Settings",
    snapshots: int,
    net: str | None,
    minutes: float | None,
    processes: int | None,
) -> None:
    from glasshouse.errors import UsageError

    together.require_shareable(recipe, minutes, processes)
    _require_named_code(recipe, net)
    if snapshots and recipe.transfer.way == "features":
        raise UsageError(
            "--snapshots needs epochs, but transfer.way = 'features' fits its heads in one step; "
            "choose another transfer.way, or run glasshouse explain RUN IMAGE afterwards"
        )


def _require_places(
    source: str,
    recipe: "Settings",
    out: Path | None,
    on: str | None,
    resume: bool,
    offline: bool,
    reread: bool,
) -> None:
    from glasshouse.cli import early_checks
    from glasshouse.runs import folder as runs
    from glasshouse.runs.holding import require_not_held

    early_checks.require_folder_free_of_files(out)
    early_checks.require_recipe(recipe, on)
    if out is not None:
        require_not_held(out)
    # Seeds that have finished need their source no more, so a resumed run looks for it later.
    if not resume:
        early_checks.require_source(source, offline=offline)
        if out is not None:
            runs.claim(out, resume=False)
    _prepare_source(source, out, reread)


def _fit_or_instead(
    fit: "Callable[[TrainRequest], TrainRequest]", request: "TrainRequest", overrides: list[str]
) -> "TrainRequest":
    """Fit the default recipe, or the smaller one where the images are too small for its network."""
    from dataclasses import replace

    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import ModelError
    from glasshouse.recipe import load_recipe

    try:
        return fit(request)
    except ModelError:
        if request.recipe.name != BUDGET_RECIPE:
            raise
        say(f"the images are too small for {request.recipe.name}; using {DEFAULT_RECIPE} instead")
        return fit(replace(request, recipe=load_recipe(DEFAULT_RECIPE, overrides)))


def _recipe_of(out: Path | None, seeds: int | None) -> str:
    """The recipe file of the run to resume, or of its first seed."""
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError
    from glasshouse.runs.holding import require_not_held
    from glasshouse.runs.resuming import recipe_to_resume

    if out is None:
        raise UsageError("--resume needs --out RUN, the folder of the run to resume")
    early_checks.require_folder_free_of_files(out)
    # Another process may just have made the folder, and not yet written its recipe.
    require_not_held(out)
    recipe = recipe_to_resume(out)
    if seeds is None and recipe.parent != out:
        raise UsageError(
            f"{out} holds runs with several seeds: add --seeds N to resume them, or resume one of "
            f"them with --out {shlex.quote(str(recipe.parent))}"
        )
    if seeds is not None and recipe.parent == out:
        raise UsageError(f"{out} holds a single run: leave --seeds out to resume it")
    return str(recipe)


def _train(
    request: "TrainRequest",
    seeds: int | None,
    json: bool,
    on: str | None = None,
    processes: int | None = None,
) -> None:
    from dataclasses import asdict

    from glasshouse.cli.metrics_text import format_seeds
    from glasshouse.cli.named_classifier import warn_of_weights
    from glasshouse.cli.on_cluster import run_one, runner_on
    from glasshouse.evaluation.evaluation import to_json
    from glasshouse.workflow.compare.seeds import seed_requests, train_seeds

    warn_of_weights(request.recipe)
    if seeds is None:
        evaluation = run_one(on, request, processes)
        if json:
            print_json({"run": str(request.out), **to_json(evaluation)})
        return
    with together.as_first(), runner_on(on, seed_requests(request, seeds)) as run:
        summary = train_seeds(request, seeds, run)
    if json:
        print_json({"run": str(request.out), **asdict(summary)})
    else:
        print(format_seeds(summary))
