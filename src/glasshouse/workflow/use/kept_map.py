"""The map of a run's images that was made before."""

from pathlib import Path

from glasshouse.evaluation.data_map import DataMap, load_map
from glasshouse.models.classifier import MODEL_FILE
from glasshouse.runs import folder as runs
from glasshouse.storage import read_json


def read_run_map(run: Path) -> DataMap | None:
    """The map of a run that was made before; None where there is none for its present weights.

    Raises StorageError where it is damaged.
    """
    path = run / runs.MAP_POINTS
    if not path.is_file():
        return None
    found = load_map(path)
    return found if is_of_weights(found, run) else None


def is_of_weights(found: DataMap, run: Path) -> bool:
    """Whether a map was made with the weights that a run has now."""
    return bool(found.weights == read_json(run / MODEL_FILE)["weights"]["sha256"])
