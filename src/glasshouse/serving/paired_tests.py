"""Whether runs differ on the same test images by more than chance.

It needs torch: the page reaches it through a function that is imported at its first call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.compare_labels import Comparisons, compare_any
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import test_predictions


@dataclass(frozen=True)
class PairedTests:
    """One comparison per pair of runs, or the reason why there is none.

    are_several: whether images may have several labels. unfinished: runs without predictions yet,
    which were left out.
    """

    comparisons: Comparisons = ()
    are_several: bool = False
    problem: str = ""
    unfinished: tuple[str, ...] = ()


def paired_tests(folders: Mapping[str, Path]) -> PairedTests:
    """Compare every pair of these runs (name to folder) that are finished."""
    finished = {
        name: folder for name, folder in folders.items() if (folder / runs.PREDICTIONS).is_file()
    }
    unfinished = tuple(name for name in folders if name not in finished)
    if len(finished) < 2:
        problem = "Fewer than two of these runs are finished."
        return PairedTests(problem=problem, unfinished=unfinished)
    try:
        predictions = {name: test_predictions(folder) for name, folder in finished.items()}
        return PairedTests(
            compare_any(predictions),
            are_several=any(each.is_multi_label for each in predictions.values()),
            unfinished=unfinished,
        )
    except GlasshouseError as error:
        return PairedTests(problem=str(error), unfinished=unfinished)
