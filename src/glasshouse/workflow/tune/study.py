"""The only file that knows Optuna: a study on disk, its trials and their outcomes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glasshouse.errors import UsageError
from glasshouse.file_lock import FileLock
from glasshouse.report.tuning_plots import TrialRecord
from glasshouse.rng import derive
from glasshouse.runs.folder import JOURNAL
from glasshouse.runs.processes import is_alive, this_process
from glasshouse.wording import ACCURACY
from glasshouse.workflow.tune.space import Categorical, Dimension, Value

if TYPE_CHECKING:
    import optuna

# A trial is given up when its process dies this often without completing another epoch, for
# example because memory runs out.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Trial:
    """One trial owned by this process: its number, its values and the name of its folder."""

    number: int
    values: dict[str, Value]
    folder: str
    handle: "optuna.Trial"


def open_study(folder: Path, *, prune: bool) -> "optuna.Study":
    """The study in a folder, created if necessary; trials of dead processes are queued again.

    Raises UsageError when Optuna is not installed.
    """
    library = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    lock = FileLock(path.with_name(f"{path.name}.flock"))
    journal = library.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    storage = library.storages.JournalStorage(journal)
    pruner = (
        library.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2, n_min_trials=3)
        if prune
        else library.pruners.NopPruner()
    )
    study: optuna.Study = library.create_study(
        storage=storage, study_name="tune", direction="maximize", load_if_exists=True, pruner=pruner
    )
    _requeue_dead(study)
    return study


def queue_first(study: "optuna.Study", values: dict[str, Value]) -> None:
    """Queue these values before those that the sampler draws."""
    study.enqueue_trial(values)


def count_started(study: "optuna.Study") -> int:
    """Trials that are running or have ended, not counting lost ones."""
    return sum(r.state not in ("waiting", "lost") for r in records(study))


def next_trial(study: "optuna.Study", space: Sequence[Dimension], seed: int) -> Trial:
    """Draw the values of the next trial and mark it as owned by this process."""
    handle = study.ask()
    # Seeded by the draw and not by the trial: a search that was killed, whose lost trials have new
    # numbers, tries the values that it would have tried.
    study.sampler = _optuna().samplers.TPESampler(
        seed=derive(seed, "tune", _draw_of(study, handle.number)) % 2**32, constant_liar=True
    )
    for key, value in this_process().items():
        handle.set_user_attr(key, value)
    values = {dimension.key: _draw(handle, dimension) for dimension in space}
    folder = str(handle.user_attrs.get("folder") or "")
    # A journal that was written by somebody else must not lead out of the folder of the search.
    folder = folder if folder.isdecimal() else f"{handle.number:04d}"
    handle.set_user_attr("folder", folder)
    return Trial(handle.number, values, folder, handle)


def report(trial: Trial, epoch: int, score: float) -> bool:
    """Record the score of an epoch; False when the trial should be pruned."""
    trial.handle.report(score, epoch)
    trial.handle.set_user_attr("epochs", epoch)
    return not trial.handle.should_prune()


def close_trial(study: "optuna.Study", trial: Trial, value: float | None, *, pruned: bool) -> None:
    """Record how a trial ended; without a value it has failed."""
    states = _optuna().trial.TrialState
    if pruned:
        study.tell(trial.handle, state=states.PRUNED)
    elif value is None:
        study.tell(trial.handle, state=states.FAIL)
    else:
        study.tell(trial.handle, value)


def note_metric(trial: Trial, metric: str) -> None:
    """Record what the values of a trial are, in words."""
    trial.handle.set_user_attr("metric", metric)


def fail(study: "optuna.Study", trial: Trial, problem: str) -> None:
    """Record that a trial failed, and why."""
    trial.handle.set_user_attr("problem", problem)
    close_trial(study, trial, None, pruned=False)


def lose(study: "optuna.Study", number: int) -> None:
    """Record that a trial's worker died, and queue its values again unless that is hopeless."""
    frozen = next(trial for trial in study.trials if trial.number == number)
    deaths = _deaths_without_progress(frozen) + 1
    if deaths < _ATTEMPTS:
        _record_loss(study, frozen, deaths)
        return
    optuna = _optuna()
    problem = f"its process died {deaths} times without another epoch"
    optuna.Trial(study, frozen._trial_id).set_user_attr("problem", problem)
    study.tell(number, state=optuna.trial.TrialState.FAIL)


def records(study: "optuna.Study") -> tuple[TrialRecord, ...]:
    """Every trial as plain values."""
    return tuple(_record(trial) for trial in study.get_trials(deepcopy=False))


def importances(study: "optuna.Study") -> dict[str, float]:
    """The share of the variance that each key explains (fANOVA); empty with too few trials.

    Pruned trials count with the value they had reached: bad learning rates, for example, are
    mostly pruned, and without them the learning rate would hardly seem to matter.
    """
    library = _optuna()
    values = {r.number: r.value for r in records(study) if r.value is not None}
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.number in values]
    if len(ended) < 4 or len(set(values.values())) < 2:
        return {}
    measured = library.create_study(direction="maximize")
    measured.add_trials(
        [
            library.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=values[trial.number],
            )
            for trial in ended
        ]
    )
    evaluator = library.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(library.importance.get_param_importances(measured, evaluator=evaluator))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError("tune needs Optuna: pip install 'glasshouse[tune]'") from error
    # The command reports progress itself; Optuna's own lines would repeat it.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _draw_of(study: "optuna.Study", number: int) -> int:
    """Which draw a trial is, from 0; one that was queued again counts as its first attempt."""
    trials = study.get_trials(deepcopy=False)
    first, before = number, trials[number].user_attrs.get("requeued_from")
    # A journal may come from anybody, so a chain that does not lead back ends.
    while isinstance(before, int) and 0 <= before < first:
        first, before = before, trials[before].user_attrs.get("requeued_from")
    return sum("requeued_from" not in trial.user_attrs for trial in trials[:first])


def _draw(handle: "optuna.Trial", dimension: Dimension) -> Value:
    if isinstance(dimension, Categorical):
        # Its annotation allows None, for categories that contain it; ours do not.
        return cast(Value, handle.suggest_categorical(dimension.key, dimension.values))
    if dimension.is_whole:
        return handle.suggest_int(
            dimension.key, int(dimension.low), int(dimension.high), log=dimension.is_log
        )
    return handle.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.is_log)


def _requeue_dead(study: "optuna.Study") -> None:
    for trial in study.trials:
        attributes = trial.user_attrs
        if trial.state.name != "RUNNING":
            continue
        if "pid" not in attributes or not is_alive(attributes["pid"], attributes["pid_started"]):
            # The whole search was stopped, so this does not count as a death of the trial.
            _record_loss(study, trial, 0)
    _requeue_unfinished_losses(study)


def _record_loss(study: "optuna.Study", trial: "optuna.trial.FrozenTrial", deaths: int) -> None:
    optuna = _optuna()
    optuna.Trial(study, trial._trial_id).set_user_attr("lost", True)
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    _queue_again(study, trial, deaths)


def _requeue_unfinished_losses(study: "optuna.Study") -> None:
    """Queue lost trials whose loss was recorded just before a kill."""
    successors = {trial.user_attrs.get("requeued_from") for trial in study.trials}
    for trial in study.trials:
        if trial.user_attrs.get("lost") and trial.number not in successors:
            _queue_again(study, trial, 0)


def _queue_again(study: "optuna.Study", lost: "optuna.trial.FrozenTrial", deaths: int) -> None:
    attributes: dict[str, Any] = {
        "requeued_from": lost.number,
        "deaths": deaths,
        "epochs_at_death": lost.user_attrs.get("epochs", 0),
    }
    if "folder" in lost.user_attrs:
        attributes["folder"] = lost.user_attrs["folder"]  # resumes from its checkpoint
    study.enqueue_trial(lost.params, user_attrs=attributes)


def _deaths_without_progress(trial: "optuna.trial.FrozenTrial") -> int:
    attributes = trial.user_attrs
    if attributes.get("epochs", 0) > attributes.get("epochs_at_death", 0):
        return 0
    return int(attributes.get("deaths", 0))


def _record(trial: "optuna.trial.FrozenTrial") -> TrialRecord:
    attributes = trial.user_attrs
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running",
             "WAITING": "waiting", "FAIL": "failed"}[trial.state.name]  # fmt: skip
    if attributes.get("lost"):
        state = "lost"
    value = trial.value if state == "complete" else None
    if state == "pruned" and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return TrialRecord(
        number=trial.number,
        state=state,
        value=value,
        values=dict(trial.params),
        epochs=int(attributes.get("epochs", 0)),
        problem=str(attributes.get("problem", "")),
        metric=str(attributes.get("metric", ACCURACY)),
    )
