"""From a list of image files to three parts: what a folder and a table have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.cache import cached_images
from glasshouse.data.cropping import choose_resize
from glasshouse.data.images import BadFile, ImageSet, OddFile, Resize, Splits, with_survey
from glasshouse.data.splits import (
    TRAINED_ON_VALIDATION,
    Positions,
    limit,
    three_parts,
    two_parts,
)
from glasshouse.data.survey import survey_slice
from glasshouse.data.workers import Fitting
from glasshouse.errors import DataError
from glasshouse.progress import Progress
from glasshouse.settings import DataSettings

Part = Literal["train", "validation", "test"]

DEFAULT_SIZE = 64
_SHOWN = 20


@dataclass(frozen=True)
class FileListing:
    """Files with what is known of them before any is opened.

    ids and labels ``(n,)``; parts: which part each file was given to, or None where the source
    leaves that to us; origin: the folder or table, for errors.
    """

    origin: Path
    paths: tuple[Path, ...]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    parts: tuple[Part, ...] | None = None
    notes: tuple[str, ...] = ()


def load_files(
    listing: FileListing, settings: DataSettings, progress: Progress | None = None
) -> Splits:
    """Split, decode and cache the files of a listing.

    Raises DataError for a class that is missing in a part, and, unless settings.on_bad_file is
    "skip", for files that are no images.
    """
    _check_classes(listing)
    positions, notes = _divide(listing, settings)
    if settings.train_limit:
        chosen = positions["train"]
        ids, labels = listing.ids[chosen], listing.labels[chosen]
        kept = limit(ids, labels, settings.train_limit, seed=settings.split_seed)
        positions = {**positions, "train": chosen[kept]}
    if settings.train_on_validation:
        both = np.concatenate([positions["train"], positions["validation"]])
        positions, notes = {**positions, "train": both}, (*notes, TRAINED_ON_VALIDATION)
    _check_parts(listing, listing.labels, positions)
    resize, why = (
        choose_resize(listing.paths) if settings.resize == "auto" else (settings.resize, "")
    )
    sets, bad_files, odd_files = _decode(listing, positions, (settings, resize), progress)
    return Splits(
        sets["train"],
        sets["validation"],
        sets["test"],
        bad_files,
        (*listing.notes, *notes, *filter(None, [why])),
        odd_files,
        resize,
    )


def _divide(
    listing: FileListing, settings: DataSettings
) -> tuple[dict[Part, Positions], tuple[str, ...]]:
    """Which positions belong to which part, and a sentence on how that came about."""
    given = _given(listing)
    share, seed = settings.validation_fraction, settings.split_seed
    if set(given) <= {"train"}:
        parts = three_parts(
            listing.ids,
            listing.labels,
            validation_fraction=share,
            test_fraction=settings.test_fraction,
            seed=seed,
        )
        note = (
            f"{settings.test_fraction:.0%} of the images were held out as test and {share:.0%} "
            "of the rest as validation, by a hash of their ids."
        )
        return dict(zip(("train", "validation", "test"), parts, strict=True)), (note,)
    if "train" not in given:
        found = " and ".join(given)
        raise DataError(f"{listing.origin} has only a {found} part; expected a train part as well")
    if len(given) == 3:
        return given, ("train, validation and test are as the source gives them.",)
    train = given["train"]
    inner, held = two_parts(listing.ids[train], listing.labels[train], share, seed=seed)
    note = f"{share:.0%} of train were held out as validation, by a hash of their ids."
    if "test" in given:
        return {"train": train[inner], "validation": train[held], "test": given["test"]}, (note,)
    renamed = (
        "The source has a validation part and no test part. It is used as test, for the final "
        "figure, so that nothing is selected on it."
    )
    return {"train": train[inner], "validation": train[held], "test": given["validation"]}, (
        renamed,
        note,
    )


def _given(listing: FileListing) -> dict[Part, Positions]:
    names = np.array(listing.parts or ())
    order: tuple[Part, ...] = ("train", "validation", "test")
    found: dict[Part, Positions] = {part: np.flatnonzero(names == part) for part in order}
    given = {part: positions for part, positions in found.items() if len(positions)}
    _check_parts(listing, listing.labels, given)
    return given


def _check_classes(listing: FileListing) -> None:
    if not listing.paths:
        raise DataError(f"{listing.origin} has no images; expected at least two classes of them")
    if len(listing.class_names) < 2:
        raise DataError(
            f"{listing.origin} has one class only ('{listing.class_names[0]}'); "
            "a classifier needs at least two"
        )
    counts = np.bincount(listing.labels, minlength=len(listing.class_names)).tolist()
    needed = 2 if listing.parts else 3
    for name, count in zip(listing.class_names, counts, strict=True):
        if count < needed:
            raise DataError(
                f"class '{name}' of {listing.origin} has {count} image{'s' * (count != 1)}; "
                f"expected at least {needed}, so that each part has one"
            )


def _check_parts(
    listing: FileListing, labels: NDArray[np.int64], positions: Mapping[Part, Positions]
) -> None:
    for part, chosen in positions.items():
        counts = np.bincount(labels[chosen], minlength=len(listing.class_names))
        missing = [n for n, count in zip(listing.class_names, counts, strict=True) if not count]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing[:_SHOWN])
            raise DataError(
                f"the {part} part of {listing.origin} has no image of class {names}; "
                "every part needs images of every class"
            )


def _decode(
    listing: FileListing,
    positions: Mapping[Part, Positions],
    reading: tuple[DataSettings, Resize],
    progress: Progress | None,
) -> tuple[dict[Part, ImageSet], tuple[BadFile, ...], tuple[OddFile, ...]]:
    """One cache for all parts, each a slice of it: slices of a memory map are memory maps."""
    settings, resize = reading
    order = np.concatenate(list(positions.values()))
    size = settings.image_size or DEFAULT_SIZE
    paths = [listing.paths[number] for number in order]
    cached = cached_images(paths, Fitting(size, size, resize), progress=progress)
    bad_files = tuple(sorted(set(cached.bad_files), key=lambda bad: bad.path))
    if bad_files and settings.on_bad_file == "error":
        raise DataError(_bad_files(bad_files, len(paths)))
    ends = np.cumsum([len(chosen) for chosen in positions.values()])
    bounds = [0, *np.searchsorted(cached.good, ends).tolist()]
    sets: dict[Part, ImageSet] = {}
    left: dict[Part, Positions] = {}
    for part, start, stop in zip(positions, bounds, bounds[1:], strict=False):
        left[part] = order[cached.good[start:stop]]
        images = ImageSet(
            cached.images[start:stop],
            listing.labels[left[part]],
            listing.ids[left[part]],
            listing.class_names,
            sizes=cached.sizes[start:stop],
        )
        sets[part] = with_survey(images, survey_slice(cached.survey, start, stop))
    _check_parts(listing, listing.labels, left)
    ids = listing.ids[order[cached.good]].tolist()
    odd_files = tuple(
        OddFile(image, remark)
        for image, remarks in zip(ids, cached.oddities, strict=True)
        for remark in remarks
    )
    return sets, bad_files, odd_files


def _bad_files(bad: Sequence[BadFile], count: int) -> str:
    lines = [f"  {file.path}: {file.reason}" for file in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  and {len(bad) - _SHOWN} more")
    listed = "\n".join(lines)
    return (
        f"{len(bad)} of {count} files cannot be read as images:\n{listed}\n"
        "Repair or remove them, or leave them out with --set data.on_bad_file=skip (of train also: "
        "--on-bad-file skip)."
    )
