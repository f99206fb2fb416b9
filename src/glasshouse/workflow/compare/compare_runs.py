"""Run folders compared image by image."""

from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.sources import Access, load_for_evaluation
from glasshouse.errors import DataError, UsageError
from glasshouse.evaluation.compare import Comparison
from glasshouse.evaluation.compare_labels import Comparisons, LabelComparison, compare_any
from glasshouse.models.predict import Predictions
from glasshouse.report.run_report import DISAGREEMENTS
from glasshouse.runs import folder as runs
from glasshouse.storage import as_path
from glasshouse.wording import pluralize
from glasshouse.workflow.use.predictions import predictions_of, was_trained_on


def compare_runs(
    folders: Sequence[str | Path],
    source: str | None = None,
    *,
    data_dir: str | Path | None = None,
    offline: bool = False,
) -> Comparisons:
    """Every pair of runs, on their own test split or on another source.

    On its test split, or on all images where it defines no splits and no run was trained on it. By
    accuracy, or by mean average precision where images may have several labels. Raises
    UsageError for fewer than two runs or the same run twice, and DataError when the runs were not
    evaluated on the same images, or only some of them give several labels.
    """
    places = [Path(folder) for folder in folders]
    names = _names(places)
    is_whole = source is not None and not any(was_trained_on(each, source) for each in places)
    answers = partial(
        predictions_of, data_dir=as_path(data_dir), offline=offline, is_whole=is_whole
    )
    found: dict[str, Predictions] = {
        name: answers(folder, source) for name, folder in zip(names, places, strict=True)
    }
    return compare_any(found)


def disagreement_images(
    comparisons: Sequence[Comparison | LabelComparison],
    folder: Path,
    source: str | None = None,
    *,
    data_dir: Path | None = None,
    offline: bool = False,
) -> dict[str, NDArray[np.uint8]]:
    """The images that a comparison page shows, uint8 ``(3, h, w)`` by id.

    folder: one of the runs, whose settings say how images are read. Raises DataError when they
    no longer exist, also where just some are gone: a source that has changed may have other images
    under the remaining names as well.
    """
    wanted = {
        row.id
        for each in comparisons
        for rows in (each.only_first_right, each.only_second_right, each.both_wrong)
        for row in rows[:DISAGREEMENTS]
    }
    run = runs.read_run(folder)
    access = Access(data_dir or run.data_dir, offline)
    images = load_for_evaluation(
        source or run.source, run.recipe.data, access=access, is_whole=source is not None
    )
    found = {
        str(image): np.asarray(images.pixels[place])
        for place, image in enumerate(images.ids)
        if str(image) in wanted
    }
    missing = sorted(wanted - set(found))
    if missing:
        raise DataError(
            f"{pluralize(len(missing), 'image')} of {len(wanted)} cannot be found among "
            f"those to compare on, such as {missing[0]}: the source has changed since the runs"
        )
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parent folders as it takes to tell them apart."""
    whole = [folder.resolve() for folder in folders]
    twice = sorted({str(folder) for folder in whole if whole.count(folder) > 1})
    if twice:
        raise UsageError(f"compare needs different runs; given twice: {', '.join(twice)}")
    if len(whole) < 2:
        raise UsageError(f"compare needs two run folders or more, received {len(whole)}")
    return next(names for names in map(partial(_tails, whole), count(1)) if _differ(names))


def _tails(folders: Sequence[Path], parts: int) -> list[str]:
    """The last ``parts`` parts of each path."""
    return [str(Path(*folder.parts[-parts:])) for folder in folders]


def _differ(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)
