"""The runs below a folder, one line each; reads no more than such a list shows, without torch."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from glasshouse.errors import GlasshouseError
from glasshouse.runs import folder as runs, records
from glasshouse.runs.failure import failure_of
from glasshouse.runs.records import read_epoch_lines, read_run_file
from glasshouse.runs.steps import is_running, last_mark
from glasshouse.wording import ACCURACY, PRECISION

# "tried": a trial of a search that is done, which is not evaluated on the test split.
Status = Literal["training", "evaluating", "finished", "tried", "stopped", "failed", "damaged"]
_FILES = (
    runs.RECIPE,
    runs.ENVIRONMENT,
    runs.METRICS,
    runs.HEADS,
    runs.EVALUATION,
    runs.FAILURE,
    runs.TRIAL,
    runs.STEPS,
)
# Time and size of steps.jsonl, which changes every second during training, are the last two
# numbers of a signature.
_OF_STEPS = -2


@dataclass(frozen=True)
class Listed:
    """One run as a line of a list; name: its path relative to the folder.

    epochs, of: completed and planned; both 0 where heads are fitted to features. metric: what
    the run is judged by; score: its value on the test split with a 95 % interval, once evaluated.
    validation: validation accuracy per epoch.
    seconds: training time. problem: why a run is listed as failed or damaged. in_search: whether it
    is a trial of a search, which alone may stop and resume it; tried: what it reached there, by the
    metric on the validation split.
    """

    name: str
    folder: Path
    status: Status
    source: str = ""
    recipe: str = ""
    epochs: int = 0
    of: int = 0
    metric: str = ACCURACY
    score: tuple[float, float, float] | None = None
    validation: tuple[float, ...] = ()
    seconds: float = 0.0
    started: str = ""
    problem: str = ""
    in_search: bool = False
    tried: float | None = None

    @property
    def is_at_work(self) -> bool:
        """True while a process trains or evaluates it."""
        return self.status in ("training", "evaluating")


@dataclass
class RunListing:
    """Lists the runs of a folder repeatedly; what has not changed is not read again."""

    folder: Path

    def __post_init__(self) -> None:
        """Nothing has been read yet."""
        self._known: dict[Path, tuple[tuple[int, ...], Listed]] = {}

    def read(self) -> list[Listed]:
        """Every run below the folder, newest first; damaged ones are listed as such."""
        found = [self.read_one(path.parent) for path in self.folder.glob(f"**/{runs.RECIPE}")]
        present = {run.folder for run in found}
        self._known = {k: v for k, v in self._known.items() if k in present}
        return sorted(found, key=lambda run: (run.started, run.name), reverse=True)

    def read_one(self, folder: Path) -> Listed:
        """One run below the folder; while only its steps advance, only its status is read again."""
        signature = _signature(folder)
        before, known = self._known.get(folder, ((), None))
        if known is None or before[:_OF_STEPS] != signature[:_OF_STEPS]:
            known = list_run(self.folder, folder)
        elif known.is_at_work:
            known = replace(known, status=_status(folder))
        elif before != signature:
            known = list_run(self.folder, folder)
        self._known[folder] = (signature, known)
        return known


def list_run(parent: Path, folder: Path) -> Listed:
    """One run as a line of a list."""
    name = folder.relative_to(parent).as_posix()
    try:
        return _read(name, folder)
    except GlasshouseError as error:
        return Listed(name, folder, "damaged", problem=str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # recipe.toml is read without its settings, which a long list would wait for.
        problem = f"{folder / runs.RECIPE} is damaged: {type(error).__name__}: {error}"
        return Listed(name, folder, "damaged", problem=problem)


def _read(name: str, folder: Path) -> Listed:
    recipe = tomllib.loads((folder / runs.RECIPE).read_text(encoding="utf-8"))
    environment = read_run_file(folder / runs.ENVIRONMENT, records.EnvironmentFile)
    epochs = read_epoch_lines(folder / runs.METRICS)
    metric, score = _score(folder / runs.EVALUATION, environment)
    trial = folder / runs.TRIAL
    tried = read_run_file(trial, records.TrialFile)["value"] if trial.is_file() else None
    status = "finished" if score else "tried" if trial.is_file() else _status(folder)
    return Listed(
        name=name,
        folder=folder,
        status=status,
        source=str(runs.recorded_path(environment, "source", folder)),
        recipe=str(recipe["name"]),
        epochs=len(epochs),
        of=0 if _is_by_features(recipe) else int(recipe["train"]["epochs"]),
        metric=metric,
        score=score,
        validation=tuple(float(epoch["validation_accuracy"]) for epoch in epochs),
        seconds=runs.training_seconds(folder, epochs),
        started=str(environment["started"]),
        problem=failure_of(folder) if status == "failed" else "",
        in_search=_is_trial(folder),
        tried=tried,
    )


def _is_trial(folder: Path) -> bool:
    trials = folder.parent
    return trials.name == runs.TRIAL_FOLDERS and (trials.parent / runs.SEARCH).is_file()


def _is_by_features(recipe: dict[str, Any]) -> bool:
    return bool(recipe.get("transfer", {}).get("way") == "features")


def _status(folder: Path) -> Status:
    if failure_of(folder):  # first: the process of a notebook lives on after a training failed
        return "failed"
    mark = last_mark(folder)
    if mark is None or not is_running(mark):
        return "stopped"
    return "evaluating" if mark.is_last else "training"


def _score(
    path: Path, environment: Mapping[str, Any]
) -> tuple[str, tuple[float, float, float] | None]:
    if not path.is_file():
        several = environment["data"].get("several_labels", False)
        return PRECISION if several else ACCURACY, None
    metric, found = records.main_metric(read_run_file(path, records.EvaluationFile))
    return metric, (float(found["value"]), float(found["low"]), float(found["high"]))


def _signature(folder: Path) -> tuple[int, ...]:
    """A value that changes whenever one of the files does."""
    found: list[int] = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
            found += (status.st_mtime_ns, status.st_size)
        except OSError:
            found += (0, 0)
    return tuple(found)
