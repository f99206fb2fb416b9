"""A search over recipe keys: this process hands out trials, worker processes train them.

Only this process writes the study, so a worker may be killed at any moment without harm: its trial
waits again and goes on from its checkpoint. Nothing here looks at the test split.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glasshouse.errors import Interrupted, UsageError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.report.encoding import figure_png
from glasshouse.report.tuning_plots import TrialRecord, search_history, search_importance
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe
from glasshouse.storage import read_json, write_bytes, write_json, write_text
from glasshouse.workflow.tune import study as studies
from glasshouse.workflow.tune.space import (
    Dimension,
    describe_space,
    recipe_of,
    require_space,
    values_in,
)
from glasshouse.workflow.tune.study import Trial
from glasshouse.workflow.tune.worker import Ended, Reached, Task, work
from glasshouse.workflow.use.source_check import require_held_out

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Search:
    """What is searched: a recipe by name or file, its overrides, and what may vary."""

    source: str
    recipe: str
    space: tuple[Dimension, ...]
    out: Path
    overrides: tuple[str, ...] = ()
    trials: int = 20
    workers: int = 1
    prune: bool = True
    seed: int = 0
    data_dir: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class SearchResult:
    """The best recipe by validation accuracy, and every trial; importance by key."""

    best: Recipe
    best_number: int
    best_value: float
    best_values: dict[str, Any]
    trials: tuple[TrialRecord, ...]
    importance: dict[str, float]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    trial: Trial | None = None


@dataclass(frozen=True)
class _Desk:
    """Where trials are handed out: the search, its study and who works."""

    search: Search
    study: "optuna.Study"
    on_trial: Callable[[TrialRecord], None]
    workers: list[_Worker] = field(default_factory=list)


def tune(
    search: Search,
    *,
    on_trial: Callable[[TrialRecord], None] = lambda trial: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> SearchResult:
    """Run trials until there are as many as wanted; a search in the folder is gone on with.

    Call it below ``if __name__ == "__main__"`` in a script, as it starts processes. on_trial hears
    of every trial that ends. Raises UsageError when the folder holds another search, where trials
    would be judged by what they train on, or when none came to a value; Interrupted when a signal
    asked to stop.
    """
    if search.trials < 1 or search.workers < 1:
        raise UsageError(
            "tune: expected a trial and a worker or more, received "
            f"{search.trials} trials and {search.workers} workers"
        )
    require_space(search.recipe, search.overrides, search.space)
    _require_held_out(search)
    _write_or_compare_settings(search)
    study = studies.open_study(search.out, seed=search.seed, prune=search.prune)
    own = values_in(load_recipe(search.recipe, search.overrides), search.space)
    if not studies.records(study) and own is not None:
        # The recipe's own values come first, so that the best is never worse than the start.
        studies.wait_for(study, own)
    with _workers(_Desk(search, study, on_trial)) as desk:
        _serve(desk, signal_received)
    return _write_results(search, study)


def _require_held_out(search: Search) -> None:
    """The recipe, and every value that may be tried, must leave the validation images alone."""
    key = "data.train_on_validation"
    varies = any(dimension.key == key for dimension in search.space)
    overrides = [*search.overrides, *([f"{key}=true"] if varies else [])]
    require_held_out(load_recipe(search.recipe, overrides).data, "tune")


def _serve(desk: _Desk, signal_received: Callable[[], int | None]) -> None:
    while True:
        _hand_out(desk)
        busy = [worker for worker in desk.workers if worker.trial is not None]
        if not busy:
            return
        ready = wait([worker.connection for worker in busy], timeout=0.2)
        for worker in busy:
            if worker.connection in ready:
                _listen(desk, worker)
        number = signal_received()
        if number is not None:
            raise Interrupted(
                f"stopped; every finished trial is in {desk.search.out}, and what was being "
                "trained is saved. The same command again goes on.",
                number,
            )


def _hand_out(desk: _Desk) -> None:
    for worker in desk.workers:
        if worker.trial is None and studies.count_started(desk.study) < desk.search.trials:
            worker.trial = studies.next_trial(desk.study, desk.search.space)
            try:
                worker.connection.send(_task(desk.search, worker.trial))
            except OSError:
                _replace(desk, worker)


def _task(search: Search, trial: Trial) -> Task:
    recipe = recipe_of(search.recipe, search.overrides, trial.values)
    return Task(
        search.source,
        recipe.model_dump(mode="json", exclude_none=True),
        search.out / runs.TRIAL_FOLDERS / trial.folder,
        search.data_dir,
        search.offline,
    )


def _listen(desk: _Desk, worker: _Worker) -> None:
    """Take one message of a worker that has a trial."""
    trial = worker.trial
    assert trial is not None
    try:
        message: Reached | Ended = worker.connection.recv()
        if isinstance(message, Reached):
            go_on = studies.report(trial, message.epoch, message.accuracy)
            worker.connection.send(go_on)
            return
    except (EOFError, OSError):
        _replace(desk, worker)
        return
    if message.problem:
        studies.fail(desk.study, trial, message.problem)
    else:
        studies.close_trial(desk.study, trial, message.value, pruned=message.was_pruned)
    worker.trial = None
    _tell(desk, trial)


def _replace(desk: _Desk, worker: _Worker) -> None:
    """A worker has died: its trial waits again, and another worker takes its place."""
    trial = worker.trial
    assert trial is not None
    worker.connection.close()
    worker.process.join(5)
    studies.lose(desk.study, trial.number)
    desk.workers[desk.workers.index(worker)] = _start(desk.search)
    _tell(desk, trial)


def _tell(desk: _Desk, trial: Trial) -> None:
    desk.on_trial(next(r for r in studies.records(desk.study) if r.number == trial.number))


@contextmanager
def _workers(desk: _Desk) -> Iterator[_Desk]:
    try:
        for _ in range(min(desk.search.workers, desk.search.trials)):
            desk.workers.append(_start(desk.search))
        yield desk
    finally:
        for worker in desk.workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in desk.workers:
            worker.process.join(10)


def _start(search: Search) -> _Worker:
    # A fresh process: forking one that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    threads = max(1, torch.get_num_threads() // search.workers)
    process = context.Process(target=work, args=(theirs, threads), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _write_or_compare_settings(search: Search) -> None:
    """What the folder's trials have in common must stay the same, or they could not be compared."""
    recipe = load_recipe(search.recipe, search.overrides)
    now = {
        "source": search.source,
        "recipe": recipe.model_dump(mode="json"),
        "search": describe_space(search.space),
    }
    path = search.out / runs.SEARCH
    if not path.is_file():
        runs.claim(search.out, resume=False)
        write_json(path, now)
        return
    before = read_json(path)
    # Both as JSON would have them: tuples and lists are alike there.
    changed = [key for key in now if _plain(before.get(key)) != _plain(now[key])]
    if changed:
        raise UsageError(
            f"{search.out} holds a search with another {' and '.join(changed)}; name another "
            "folder with --out, or ask for the same again to go on"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _write_results(search: Search, study: "optuna.Study") -> SearchResult:
    trials = studies.records(study)
    importance = studies.importances(study)
    write_json(
        search.out / runs.TRIALS,
        {"trials": [asdict(trial) for trial in trials], "importance": importance},
    )
    best = _best(search, trials)
    recipe = _best_recipe(search, best)
    write_text(search.out / runs.BEST, to_toml(recipe))
    write_bytes(search.out / runs.PLOTS / "history.png", figure_png(search_history(trials)))
    if importance:
        image = figure_png(search_importance(importance))
        write_bytes(search.out / runs.PLOTS / "importance.png", image)
    return SearchResult(
        recipe, best.number, best.value or 0.0, dict(best.values), trials, importance
    )


def _best(search: Search, trials: Sequence[TrialRecord]) -> TrialRecord:
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        problems = "; ".join(sorted({trial.problem for trial in trials if trial.problem})[:3])
        raise UsageError(
            f"none of {len(trials)} trials in {search.out} came to a value"
            + (f": {problems.rstrip('.')}" if problems else "")
            + ". If that is no matter of the images, search a narrower range or raise --trials."
        )
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number))


def _best_recipe(search: Search, best: TrialRecord) -> Recipe:
    recipe = recipe_of(search.recipe, search.overrides, best.values)
    description = (
        f"{recipe.name}, tuned on {search.source}: trial {best.number} of {search.trials}, "
        f"validation accuracy {best.value:.2%}."
    )
    return recipe.model_copy(update={"name": f"{recipe.name}-tuned", "description": description})
