"""Run folders against each other, picture by picture."""

from collections.abc import Sequence
from pathlib import Path

from glasshouse.errors import UsageError
from glasshouse.evaluation.compare import Comparison, compare_all
from glasshouse.models.predict import Predictions
from glasshouse.workflow.measuring import predictions_of


def compare_runs(
    folders: Sequence[Path],
    source: str | None = None,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
) -> tuple[Comparison, ...]:
    """Every pair of runs on their own test split, or on that of another source.

    Raises UsageError for fewer than two runs or the same run twice, DataError when the runs were
    not measured on the same pictures.
    """
    names = _names(folders)
    found: dict[str, Predictions] = {
        name: predictions_of(folder, source, data_dir=data_dir, offline=offline)
        for name, folder in zip(names, folders, strict=True)
    }
    return compare_all(found)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names where they differ, else their paths."""
    whole = [folder.resolve() for folder in folders]
    twice = sorted({str(folder) for folder in whole if whole.count(folder) > 1})
    if twice:
        raise UsageError(f"compare needs different runs; named twice: {', '.join(twice)}")
    if len(whole) < 2:
        raise UsageError(f"compare needs two run folders or more, received {len(whole)}")
    short = [folder.name for folder in whole]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]
