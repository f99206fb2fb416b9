"""`glasshouse tune`: a hyperparameter search on the validation split."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import (
    DEFAULT_RECIPE,
    BatchSize,
    DataDir,
    Device,
    Epochs,
    ImageSize,
    Json,
    LearningRate,
    Offline,
    On,
    Recipe,
    Reread,
    Set,
    Source,
    print_json,
    with_shorthands,
)
from glasshouse.wording import percentage, pluralize

if TYPE_CHECKING:
    from glasshouse.report.tuning_plots import TrialRecord
    from glasshouse.workflow.tune.tune import Search, SearchResult


SearchKeys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUES",
        help="What to vary: train.lr=1e-4..1e-1:log, train.batch_size=32,64, model.filters=16..64 "
        "(filters of the first convolution; the others scale along) or model.width=0.5..2 (scales "
        "all filters and units). Repeatable.",
    ),
]
Trials = Annotated[int, typer.Option(min=1, help="Total number of trials.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of trials at the same time, each in its own process. Default: 1, with --on "
        "as many as the cluster has room for.",
    ),
]
Prune = Annotated[bool, typer.Option(help="Stop trials that fall behind the median.")]
Seed = Annotated[
    int, typer.Option(help="Seed of the search; training uses the seed of the recipe.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the search. Default: runs/SOURCE-RECIPE-tune.")
]


def tune(
    source: Source,
    recipe: Recipe = DEFAULT_RECIPE,
    search: SearchKeys = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    image_size: ImageSize = None,
    device: Device = None,
    set_: Set = None,
    trials: Trials = 20,
    workers: Workers = None,
    on: On = None,
    prune: Prune = True,
    seed: Seed = 0,
    out: Out = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Search recipe keys for the best validation accuracy, or mean average precision.

    Running the same command again resumes where it stopped; a larger --trials adds to it.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.cluster.connection import require_address
    from glasshouse.data.sources import source_name
    from glasshouse.recipe import overridden_keys
    from glasshouse.runs.folder import BEST
    from glasshouse.runs.holding import require_not_held
    from glasshouse.workflow.tune.space import parse_search, recipes_at_ends, require_space

    require_address(on)
    usual = f"{source_name(source)}-{Path(recipe).stem}-tune"
    folder = out or early_checks.runs_folder(source) / usual
    space = tuple(parse_search(text) for text in search or ())
    overrides = with_shorthands(
        set_, epochs=epochs, batch_size=batch_size, lr=lr, image_size=image_size, device=device
    )
    require_space(recipe, overrides, space)
    keys = [*overridden_keys(overrides), *(each.key for each in space)]
    early_checks.require_recipes(recipes_at_ends(recipe, overrides, space), keys, on)
    early_checks.require_folder_free_of_files(folder)
    early_checks.require_outside(out, source)
    require_not_held(folder)
    if not folder.exists():
        early_checks.require_source(source, offline=offline)
    early_checks.reread(reread, source)
    from glasshouse.workflow.tune.tune import Search

    wanted = Search(
        source, recipe, space, folder,
        overrides=tuple(overrides), trials=trials, workers=workers or 1, prune=prune, seed=seed,
        data_dir=data_dir, offline=offline,
    )  # fmt: skip
    found = _found(wanted, on, workers)
    if json:
        print_json({**_as_json(found), "best_recipe": str(folder / BEST)})
    else:
        print(format_search(found))
    say(f"train with the best recipe: {_command(source, folder / BEST, data_dir, offline)}")


def _found(wanted: "Search", on: str | None, workers: int | None) -> "SearchResult":
    """Search on a cluster, or in processes of this machine."""
    from glasshouse.cli.on_cluster import crew_on
    from glasshouse.cli.progress_bars import say
    from glasshouse.cli.signals import catch_signals
    from glasshouse.recipe import load_recipe
    from glasshouse.workflow.tune.tune import search_with

    device = load_recipe(wanted.recipe, wanted.overrides).train.device
    with crew_on(on, wanted.out, workers, device) as crew, catch_signals() as signal_received:
        return search_with(
            crew, wanted, on_trial=lambda trial: say(_line(trial)), signal_received=signal_received
        )


def _command(source: str, recipe: Path, data_dir: Path | None, offline: bool) -> str:
    """The command that trains with a recipe, from any folder and any shell."""
    from glasshouse.data.sources import absolute_source

    words = ["glasshouse", "train", absolute_source(source), "--recipe", str(recipe.resolve())]
    words += [] if data_dir is None else ["--data-dir", str(data_dir.resolve())]
    return shlex.join([*words, "--offline"] if offline else words)


def format_search(found: "SearchResult") -> str:
    """The best values, the importance of each key, and a caution."""
    from glasshouse.wording import metric_text

    states = [trial.state for trial in found.trials]
    counts = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("complete", "pruned", "failed", "lost")
        if state in states
    )
    value = metric_text(found.metric, found.best_value)
    lines = [f"best: trial {found.best_number}, validation {found.metric} {value}"]
    lines += [f"  {key} = {_shown(value)}" for key, value in found.best_values.items()]
    lines += [
        f"  {key} explains {percentage(share, 0)} of the variation"
        for key, share in found.importance.items()
    ]
    lines.append(f"trials: {counts}")
    lines.append(
        "The best of many trials is partly luck: train it again, with --seeds 3, to measure its "
        f"test {found.metric}."
    )
    return "\n".join(lines)


def _line(trial: "TrialRecord") -> str:
    from glasshouse.wording import metric_text

    value = (
        ""
        if trial.value is None
        else f" {metric_text(trial.metric, trial.value)} after {pluralize(trial.epochs, 'epoch')}"
    )
    values = ", ".join(f"{key}={_shown(value)}" for key, value in trial.values.items())
    problem = f" ({trial.problem.splitlines()[0]})" if trial.problem else ""
    if trial.state == "lost":
        problem = " (its process died; the trial will run again)"
    return f"trial {trial.number}: {trial.state}{value}{problem}  {values}"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_json(found: "SearchResult") -> dict[str, object]:
    return {
        "best": {
            "trial": found.best_number,
            f"validation_{found.metric.replace(' ', '_')}": found.best_value,
            "values": found.best_values,
        },
        "importance": found.importance,
        "trials": [asdict(trial) for trial in found.trials],
    }
