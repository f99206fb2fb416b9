"""Whether runs differ on the same test images by more than chance.

It needs torch: the page reaches it through a function that is imported at its first call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glasshouse.errors import GlasshouseError
from glasshouse.evaluation.compare import align
from glasshouse.evaluation.compare_labels import Comparisons, compare_any
from glasshouse.models.predict import Predictions
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import test_predictions


@dataclass(frozen=True)
class PairedTests:
    """One comparison per pair of runs, or the reason why there is none.

    are_several: whether images may have several labels. unfinished: runs without predictions yet,
    which were left out. unfit: the others that were left out, each with the reason.
    """

    comparisons: Comparisons = ()
    are_several: bool = False
    problem: str = ""
    unfinished: tuple[str, ...] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)


def paired_tests(folders: Mapping[str, Path]) -> PairedTests:
    """Compare every pair of these runs (name to folder) that are finished and fit each other."""
    finished = {
        name: folder for name, folder in folders.items() if (folder / runs.PREDICTIONS).is_file()
    }
    unfinished = tuple(name for name in folders if name not in finished)
    if len(finished) < 2:
        problem = "Fewer than two of these runs are finished."
        return PairedTests(problem=problem, unfinished=unfinished)
    predictions, damaged = _readable(finished)
    chosen, others = _largest_group(predictions)
    unfit = damaged | others
    if len(chosen) < 2:
        return PairedTests(problem=" ".join(unfit.values()), unfinished=unfinished)
    are_several = any(each.is_multi_label for each in chosen.values())
    return PairedTests(
        compare_any(chosen), are_several=are_several, unfinished=unfinished, unfit=unfit
    )


def _readable(folders: Mapping[str, Path]) -> tuple[dict[str, Predictions], dict[str, str]]:
    """The predictions of each run, and what is wrong with those of the others."""
    found: dict[str, Predictions] = {}
    damaged: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            found[name] = test_predictions(folder)
        except GlasshouseError as error:
            damaged[name] = str(error)
    return found, damaged


def _largest_group(
    predictions: Mapping[str, Predictions],
) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Most runs that fit each other, in their order, and why each of the others does not fit."""
    groups: list[list[str]] = []
    for name in predictions:
        fitting = (group for group in groups if not _misfit(predictions, group[0], name))
        group = next(fitting, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    chosen = max(groups, key=len, default=[])  # the first of equally large ones
    others = {
        name: _misfit(predictions, chosen[0], name) for name in predictions if name not in chosen
    }
    return {name: predictions[name] for name in chosen}, others


def _misfit(predictions: Mapping[str, Predictions], first: str, second: str) -> str:
    """Why two runs cannot be compared; empty where they can."""
    pair = {name: predictions[name] for name in (first, second)}
    try:
        if pair[first].is_multi_label != pair[second].is_multi_label:
            compare_any(pair)  # refuses them before it computes anything
        else:
            align(pair[first], pair[second], (first, second))
    except GlasshouseError as error:
        return str(error)
    return ""
