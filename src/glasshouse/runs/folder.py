"""Run folders, read without torch: their layout, and what was trained, how far and how well."""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from glasshouse.errors import UsageError
from glasshouse.recipe import load_recipe
from glasshouse.runs import records
from glasshouse.runs.records import read_epoch_lines, read_run_file
from glasshouse.settings import Recipe
from glasshouse.wording import has_no_end, pluralize

# Every name below a run folder is defined here and nowhere else, in the order of writing.
RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
FINDER = "finder.json"
STEPS = "steps.jsonl"
FAILURE = "failure.txt"
CHECKPOINTS = "checkpoint"
KEPT_EPOCHS = "epochs"
METRICS = "metrics.jsonl"
HEADS = "heads.json"
SNAPSHOTS = "snapshots"
SNAPSHOT_STRIP = "snapshots/strip.png"
# The two files of a saved classifier; models/classifier.py, a lower layer, names them as well.
WEIGHTS = "model.safetensors"
MODEL = "model.json"
PREDICTIONS = "predictions.safetensors"
VALIDATION_PREDICTIONS = "validation-predictions.safetensors"
OUT_OF_FOLD_PREDICTIONS = "out-of-fold-predictions.safetensors"
EVALUATION = "evaluation.json"
# Made when similar images are first asked for.
TRAINING_FEATURES = "training-features.safetensors"
COST = "cost.json"
PLOTS = "plots"
REPORT = "report.html"
MISTAKES = "mistakes.html"
SHORTCUTS = "shortcuts.json"
SHORTCUTS_PAGE = "shortcuts.html"
GROUPS = "groups.json"
GROUPS_PAGE = "groups.html"
MAP = "map.json"
MAP_POINTS = "map.safetensors"
MAP_GROUPS = "map-groups.json"
MAP_PAGE = "map.html"
EXPLAINED_MISTAKES = "plots/explained-mistakes.png"
TENSORBOARD = "tensorboard"
MLFLOW = "mlflow.json"

# Folders that hold several runs. The record of background runs lies next to them and not inside,
# because the folder of a new run has to be empty.
BACKGROUND = ".background"
SEED_FOLDER = "seed-{}"
SEEDS = "seeds.json"
LADDER = "ladder.json"
LADDER_CHART = "ladder.png"
LADDER_PAGE = "ladder.html"

# The folder of a hyperparameter search.
SEARCH = "tune.json"
JOURNAL = "study.journal"
TRIALS = "trials.json"
TRIAL_FOLDERS = "trials"
EPOCH_SCORES = "scores.json"
TRIAL = "trial.json"
BEST = "best.toml"


@dataclass(frozen=True)
class Run:
    """One run folder.

    epochs and evaluation are read when they are first asked for, so that a damaged file stops only
    those who need it; they raise StorageError then. evaluation is None until the run has finished.
    """

    folder: Path
    recipe: Recipe
    environment: dict[str, Any]

    @cached_property
    def epochs(self) -> tuple[dict[str, Any], ...]:
        """The lines of metrics.jsonl."""
        return read_epoch_lines(self.folder / METRICS)

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """The metrics on the test split."""
        path = self.folder / EVALUATION
        return read_run_file(path, records.EvaluationFile) if path.is_file() else None

    @property
    def source(self) -> str:
        """Where the images are: a built-in name, or a path that is found from any folder."""
        return str(recorded_path(self.environment, "source", self.folder))

    @property
    def data_dir(self) -> Path | None:
        """The folder with the data sets that the run was started with; None for the usual one."""
        place = recorded_path(self.environment, "data_dir", self.folder)
        return None if place is None else Path(place)

    @property
    def data_options(self) -> tuple[str, ...]:
        """The option of a command that names this data folder; empty for the usual one."""
        return () if self.data_dir is None else ("--data-dir", str(self.data_dir))

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of its command that neither the recipe nor the data holds."""
        return self.environment.get("options") or {}

    @property
    def threads(self) -> int:
        """How many threads of the processor it trains with."""
        return int(self.environment["threads"])

    @property
    def is_finished(self) -> bool:
        """True once the test split has been evaluated."""
        return (self.folder / EVALUATION).is_file()

    @property
    def seconds(self) -> float:
        """Training time: of the epochs, or of features and heads where there are none."""
        return training_seconds(self.folder, self.epochs)

    @property
    def shortcut_verdict(self) -> str:
        """What `glasshouse shortcuts` found, in words; empty where it has not been asked."""
        return self._verdict(SHORTCUTS)

    @property
    def group_verdict(self) -> str:
        """What `glasshouse groups` found, in words; empty where it has not been asked."""
        return self._verdict(GROUPS)

    @property
    def map_words(self) -> str:
        """What the map of `glasshouse map` shows, in words; empty where there is none."""
        return self._verdict(MAP)

    def _verdict(self, name: str) -> str:
        path = self.folder / name
        return str(read_run_file(path, records.VerdictFile)["verdict"]) if path.is_file() else ""

    @property
    def finder_seconds(self) -> float:
        """Time of the learning-rate range test; 0 where there was none."""
        path = self.folder / FINDER
        return float(read_run_file(path, records.FinderFile)["seconds"]) if path.is_file() else 0.0


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises UsageError when it is not one, and RecipeError or StorageError when a file is damaged.
    """
    if not (folder / RECIPE).is_file() or not (folder / ENVIRONMENT).is_file():
        seeds = sorted(path.parent for path in folder.glob(f"{SEED_FOLDER.format('*')}/{RECIPE}"))
        if seeds:
            raise UsageError(
                f"{folder} holds the runs of {pluralize(len(seeds), 'seed')}: name one of them, "
                f"such as {seeds[0]}"
            )
        what = "does not exist" if not folder.exists() else f"has no {RECIPE}"
        # Such as the name of a bundled model.
        is_name = len(folder.parts) == 1 and not folder.exists()
        others = "A model that is no run comes without the images that this needs. "
        raise UsageError(
            f"{folder} is not a run folder: it {what}. {others if is_name else ''}"
            "`glasshouse runs FOLDER` lists the runs in a folder, `glasshouse train` creates one."
        )
    return Run(
        folder=folder,
        recipe=load_recipe(folder / RECIPE),
        environment=read_run_file(folder / ENVIRONMENT, records.EnvironmentFile),
    )


def require_trained(folder: Path) -> Run:
    """The run in a folder; raises UsageError when it is not one or has no trained model yet."""
    run = read_run(folder)
    if not (folder / MODEL).is_file():
        code = run.recipe.model.code
        command = resume_command(
            run.source, folder, data_dir=run.data_dir, code=code, options=run.options
        )
        epochs = run.recipe.train.epochs
        done = f"{len(run.epochs)}" if has_no_end(epochs) else f"{len(run.epochs)} of {epochs}"
        raise UsageError(
            f"{folder} has not finished training ({done} epochs). Resume with: {command}"
        )
    return run


def names_folder(model: str) -> bool:
    """Whether the name of a model is that of a folder, also of one that does not exist."""
    # A slash can only belong to a path, unless it follows the name of a library, or is that of a
    # weights file: NAME:weights=FILE.
    bare = model.partition(":")[0] if ":weights=" in model or ",weights=" in model else model
    is_zoo = bare.partition("/")[0] in ("torchvision", "timm")
    return Path(model).is_dir() or ("/" in bare and not is_zoo)


def resume_command(
    source: str,
    folder: Path,
    *,
    data_dir: Path | None = None,
    seeds: int | None = None,
    code: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """The command that resumes a run, or one with several seeds, from any folder and any shell.

    source: a built-in name or an absolute path. code: of the network, if it is the user's own.
    options: those of ``Run.options``.
    """
    words = ["glasshouse", "train", source, "--out", str(folder.resolve()), "--resume"]
    words += [] if code is None else ["--net", code]
    words += [] if seeds is None else ["--seeds", str(seeds)]
    if data_dir is not None:
        # A recorded one is absolute, and may hold what no path can, such as a null byte.
        words += ["--data-dir", str(data_dir if data_dir.is_absolute() else data_dir.resolve())]
    return shlex.join([*words, *option_words(options or {})])


def option_words(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of a command that stand for ``Run.options``."""
    logs = chain.from_iterable(("--log", name) for name in options.get("log", ()))
    values = {"--snapshots": options.get("snapshots"), "--weights": options.get("weights")}
    given = chain.from_iterable((name, str(value)) for name, value in values.items() if value)
    return (*logs, *given, *(("--offline",) if options.get("offline") else ()))


def recorded_path(environment: Mapping[str, Any], key: str, folder: Path) -> str | None:
    """A path in environment.json, or where it is now if the run was moved together with it.

    key: source or data_dir.
    """
    recorded: str | None = environment["data"].get(key)
    from_run: str | None = environment["data"].get(f"{key}_from_run")
    if recorded is None or from_run is None or _exists(recorded):
        return recorded
    moved = os.path.normpath(folder.resolve() / from_run)
    return moved if _exists(moved) else recorded


def _exists(path: str) -> bool:
    # Unlike that of Path, this never raises: the record of a run may hold anything.
    return os.path.exists(path)  # noqa: PTH110


def path_from_run(path: str | Path, folder: Path) -> str | None:
    """A path relative to a run folder; None where there is none, between drives of Windows."""
    try:
        return os.path.relpath(Path(path).resolve(), folder.resolve())
    except ValueError:
        return None


def claim(folder: Path, *, resume: bool) -> Run | None:
    """The run to resume in a folder, or None where a new one starts.

    Raises UsageError when the folder holds anything and resume is False, or when it holds
    something other than a run.
    """
    if is_free(folder):
        return None
    if not resume:
        # Only a run can be resumed, so that the advice would be wrong for other folders.
        runs = any(folder.glob(RECIPE)) or any(folder.glob(f"{SEED_FOLDER.format('*')}/{RECIPE}"))
        advice = "Add --resume to continue the run in it, or name" if runs else "Name"
        raise UsageError(f"{folder} is not empty. {advice} another folder with --out.")
    return read_run(folder) if _has_begun(folder) else None


def is_free(folder: Path) -> bool:
    """True when a folder does not exist, is empty, or has only pieces of a first file."""
    return not folder.exists() or not _whole_names(folder)


def training_seconds(folder: Path, epochs: Sequence[Mapping[str, Any]]) -> float:
    """Training time: of the epochs, or of features and heads where there are none."""
    path = folder / HEADS
    if path.is_file():
        record = read_run_file(path, records.HeadsFile)
        return float(record["feature_seconds"]) + float(record["head_seconds"])
    return math.fsum(float(epoch["seconds"]) for epoch in epochs)


def next_run_folder(parent: Path, name: str) -> Path:
    """A folder that does not exist yet: name-1, name-2 and so on."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _has_begun(folder: Path) -> bool:
    """False when a run ended so early that its first two files are not both there."""
    return not _whole_names(folder) <= {RECIPE, FAILURE}


def _whole_names(folder: Path) -> set[str]:
    """The names in a folder, without pieces of a run's first two files."""
    # An atomic write that was killed leaves its temporary file, named after the final one.
    pieces = tuple(f".{name}." for name in (RECIPE, ENVIRONMENT))
    return {path.name for path in folder.iterdir() if not path.name.startswith(pieces)}
