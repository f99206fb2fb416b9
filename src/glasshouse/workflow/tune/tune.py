"""Hyperparameter search: this process assigns trials, worker processes train them.

Only this process writes the study, so a worker may be killed at any moment without harm: its trial
is queued again and resumes from its checkpoint. The test split is never used.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.data.sources import absolute_source
from glasshouse.errors import Interrupted, UsageError
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.report.encoding import figure_png
from glasshouse.report.tuning_plots import TrialRecord, search_history, search_importance
from glasshouse.runs import folder as runs, holding
from glasshouse.settings import Recipe
from glasshouse.storage import (
    as_path,
    read_json,
    remove_unfinished,
    write_bytes,
    write_json,
    write_text,
)
from glasshouse.wording import metric_text
from glasshouse.workflow.tune import study as studies
from glasshouse.workflow.tune.crew import Crew, ProcessCrew, Worker
from glasshouse.workflow.tune.space import (
    Dimension,
    describe_space,
    recipe_of,
    require_space,
    values_in,
)
from glasshouse.workflow.tune.study import Trial
from glasshouse.workflow.tune.worker import Reached, Task
from glasshouse.workflow.use.source_check import require_held_out

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Search:
    """What to search: a recipe by name or file, its overrides, and the keys that vary.

    out: the folder of the search. trials: how many to run in all. workers: processes that train
    at the same time. prune: stop unpromising trials early. seed: of the sampler.
    """

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

    def __post_init__(self) -> None:
        # In Python, places are also named by strings.
        for name in ("out", "data_dir"):
            object.__setattr__(self, name, as_path(getattr(self, name)))


@dataclass(frozen=True)
class SearchResult:
    """The best recipe by its validation score, and every trial.

    metric: what scores are: accuracy, or mean average precision where an image may have several
    labels. importance: the share of the variance that each key explains.
    """

    best: Recipe
    best_number: int
    best_value: float
    metric: str
    best_values: dict[str, Any]
    trials: tuple[TrialRecord, ...]
    importance: dict[str, float]


@dataclass
class _Place:
    """A worker, and the trial that it trains."""

    worker: Worker
    trial: Trial | None = None


@dataclass(frozen=True)
class _Pool:
    """The search, its study, who trains, and the workers with their trials."""

    search: Search
    study: "optuna.Study"
    crew: Crew
    on_trial: Callable[[TrialRecord], None]
    places: list[_Place] = field(default_factory=list)


def tune(
    search: Search,
    *,
    on_trial: Callable[[TrialRecord], None] = lambda trial: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> SearchResult:
    """Run trials until there are ``search.trials``; an earlier search in the folder is resumed.

    In a script, call it below ``if __name__ == "__main__"``, because it starts processes.
    on_trial: called with every trial that ends. signal_received: polled, and a signal number stops
    the search with everything saved. Raises UsageError when the folder holds another search, when
    another process searches in it, or when no trial succeeds; RecipeError when trials would train
    on the images that judge them; and Interrupted after a signal.
    """
    crew = ProcessCrew(search.workers)
    return search_with(crew, search, on_trial=on_trial, signal_received=signal_received)


def search_with(
    crew: Crew,
    search: Search,
    *,
    on_trial: Callable[[TrialRecord], None] = lambda trial: None,
    signal_received: Callable[[], int | None] = lambda: None,
) -> SearchResult:
    """`tune` with a crew that need not be processes of this machine."""
    if search.trials < 1 or search.workers < 1:
        raise UsageError(
            "tune: expected a trial and a worker or more, received "
            f"{search.trials} trials and {search.workers} workers"
        )
    require_space(search.recipe, search.overrides, search.space)
    _require_held_out(search)
    holding.hold(search.out)
    try:
        _write_or_compare_settings(search)
        study = studies.open_study(search.out, prune=search.prune)
        pool = _Pool(search, study, crew, on_trial)
        return _searched(pool, signal_received)
    finally:
        holding.release(search.out)


def _searched(pool: _Pool, signal_received: Callable[[], int | None]) -> SearchResult:
    search, study = pool.search, pool.study
    own = values_in(load_recipe(search.recipe, search.overrides), search.space)
    if not studies.records(study) and own is not None:
        # The recipe's own values come first, so that the best is never worse than the original.
        studies.queue_first(study, own)
    with _workers(pool):
        _serve(pool, signal_received)
    return _write_results(search, study)


def _require_held_out(search: Search) -> None:
    """Raise RecipeError when the recipe, or a value in the space, trains on validation images."""
    key = "data.train_on_validation"
    varies = any(dimension.key == key for dimension in search.space)
    overrides = [*search.overrides, *([f"{key}=true"] if varies else [])]
    require_held_out(load_recipe(search.recipe, overrides).data, "tune")


def _serve(pool: _Pool, signal_received: Callable[[], int | None]) -> None:
    while True:
        _assign(pool)
        busy = [place for place in pool.places if place.trial is not None]
        if not busy:
            return
        ready = pool.crew.ready([place.worker for place in busy], 0.2)
        for place in busy:
            if place.worker in ready:
                _listen(pool, place)
        number = signal_received()
        if number is not None:
            raise Interrupted(
                f"stopped; finished trials are in {pool.search.out}, and unfinished ones are "
                "saved. The same command resumes.",
                number,
            )


def _assign(pool: _Pool) -> None:
    for place in pool.places:
        if place.trial is not None:
            continue
        if studies.count_started(pool.study) >= pool.search.trials:
            place.worker.rest()
            continue
        place.trial = studies.next_trial(pool.study, pool.search.space, pool.search.seed)
        try:
            place.worker.send(_task(pool.search, place.trial))
        except OSError:
            _replace(pool, place)


def _task(search: Search, trial: Trial) -> Task:
    recipe = recipe_of(search.recipe, search.overrides, trial.values)
    return Task(
        search.source,
        recipe.model_dump(mode="json", exclude_none=True),
        search.out / runs.TRIAL_FOLDERS / trial.folder,
        search.data_dir,
        search.offline,
    )


def _listen(pool: _Pool, place: _Place) -> None:
    """Handle one message of a worker that has a trial."""
    trial = place.trial
    assert trial is not None
    try:
        message = place.worker.recv()
        if isinstance(message, Reached):
            go_on = studies.report(trial, message.epoch, message.score)
            place.worker.send(go_on)
            return
    except (EOFError, OSError):
        _replace(pool, place)
        return
    if message.problem:
        studies.fail(pool.study, trial, message.problem)
    else:
        studies.note_metric(trial, message.metric)
        studies.close_trial(pool.study, trial, message.value, pruned=message.was_pruned)
    place.trial = None
    _tell(pool, trial)


def _replace(pool: _Pool, place: _Place) -> None:
    """Replace a worker that has died, and queue its trial again."""
    trial = place.trial
    assert trial is not None
    place.worker.stop()
    place.worker.join(5)
    studies.lose(pool.study, trial.number)
    place.worker, place.trial = pool.crew.start(), None
    _tell(pool, trial)


def _tell(pool: _Pool, trial: Trial) -> None:
    pool.on_trial(next(r for r in studies.records(pool.study) if r.number == trial.number))


@contextmanager
def _workers(pool: _Pool) -> Iterator[None]:
    try:
        for _ in range(min(pool.crew.size, pool.search.trials)):
            pool.places.append(_Place(pool.crew.start()))
        yield
    finally:
        for place in pool.places:
            place.worker.stop()
        for place in pool.places:
            place.worker.join(10)


def _write_or_compare_settings(search: Search) -> None:
    """Record what all trials have in common; raise UsageError when it differs from before."""
    recipe = load_recipe(search.recipe, search.overrides)
    now = {
        "source": absolute_source(search.source),
        "recipe": recipe.model_dump(mode="json"),
        "search": describe_space(search.space),
    }
    path = search.out / runs.SEARCH
    if not path.is_file():
        runs.claim(search.out, resume=False)
        write_json(path, now)
        return
    before = read_json(path)
    # Compared as JSON, where tuples and lists are the same.
    changed = [key for key in now if _plain(before.get(key)) != _plain(now[key])]
    if changed:
        raise UsageError(
            f"{search.out} holds a search with another {' and '.join(changed)}: name another "
            "folder with --out, or repeat the original command to resume"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _write_results(search: Search, study: "optuna.Study") -> SearchResult:
    trials = studies.records(study)
    importance = studies.importances(study)
    # All workers have ended.
    remove_unfinished(search.out)
    write_json(
        search.out / runs.TRIALS,
        {"trials": [asdict(trial) for trial in trials], "importance": importance},
    )
    best = _best(search, trials)
    recipe = _best_recipe(search, best)
    write_text(search.out / runs.BEST, to_toml(recipe))
    write_bytes(search.out / runs.PLOTS / "history.png", figure_png(search_history(trials)))
    if importance:
        image = figure_png(search_importance(importance, metric=best.metric))
        write_bytes(search.out / runs.PLOTS / "importance.png", image)
    return SearchResult(
        recipe,
        best.number,
        best.value or 0.0,
        best.metric,
        dict(best.values),
        trials,
        importance,
    )


def _best(search: Search, trials: Sequence[TrialRecord]) -> TrialRecord:
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        problems = "; ".join(sorted({trial.problem for trial in trials if trial.problem})[:3])
        raise UsageError(
            f"none of the {len(trials)} trials in {search.out} succeeded"
            + (f": {problems.rstrip('.')}" if problems else "")
            + ". Unless the images are at fault, search a narrower range or raise --trials."
        )
    return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number))


def _best_recipe(search: Search, best: TrialRecord) -> Recipe:
    recipe = recipe_of(search.recipe, search.overrides, best.values)
    description = (
        f"{recipe.name}, tuned on {search.source}: trial {best.number} of {search.trials}, "
        f"validation {best.metric} {metric_text(best.metric, best.value or 0.0)}."
    )
    return recipe.model_copy(update={"name": f"{recipe.name}-tuned", "description": description})
