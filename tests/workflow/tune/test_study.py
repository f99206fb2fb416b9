"""A search that was killed tries the values that it would have tried."""

from pathlib import Path

from glasshouse.workflow.tune import study as studies
from glasshouse.workflow.tune.space import parse_search

SPACE = [parse_search("train.lr=1e-4..1e-1:log"), parse_search("train.batch_size=32,64")]
TRIALS = 14  # after ten, the sampler learns from what came before


def searched(folder: Path, lost: set[int], seed: int = 0) -> list[tuple[dict[str, object], float]]:
    """Values and result of every finished trial; the k-th start is lost for each k in lost."""
    done: list[tuple[dict[str, object], float]] = []
    starts = 0
    while len(done) < TRIALS:
        # Opened anew, as by a command that was killed and started again.
        study = studies.open_study(folder, prune=False)
        trial = studies.next_trial(study, SPACE, seed)
        starts += 1
        if starts in lost:
            studies.lose(study, trial.number)
            continue
        value = -abs(float(str(trial.values["train.lr"])) - 0.01)
        studies.close_trial(study, trial, value, pruned=False)
        done.append((dict(trial.values), value))
    return done


def test_lost_trials_do_not_change_what_is_tried(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", set())
    assert searched(tmp_path / "killed", {1, 2, 5, 12, 15, 16}) == whole
    assert len({str(values) for values, _ in whole}) == TRIALS


def test_another_seed_tries_other_values(tmp_path: Path) -> None:
    assert searched(tmp_path / "a", set(), seed=1) != searched(tmp_path / "b", set(), seed=2)
