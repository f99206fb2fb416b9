"""From a list of image files to three splits, for folders and for tables."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.bit_depth import describe_narrow, warn_of_narrow
from glasshouse.data.cache import cached_images
from glasshouse.data.class_names import describe_similar, similar_names
from glasshouse.data.cropping import choose_resize
from glasshouse.data.embedded import ImageFile
from glasshouse.data.fitting import Fitting
from glasshouse.data.images import BadFile, ImageSet, OddFile, Splits, with_survey
from glasshouse.data.remote_copy import SourceCopy
from glasshouse.data.splits import (
    TRAINED_ON_VALIDATION,
    Positions,
    limit,
    three_way_split,
    two_way_split,
)
from glasshouse.data.survey import survey_slice
from glasshouse.data.targets import Targets, class_counts
from glasshouse.errors import DataError, GlasshouseWarning, UnreadableFiles
from glasshouse.progress import Progress
from glasshouse.settings import DataSettings
from glasshouse.wording import first_of, percentage, pluralize

SplitName = Literal["train", "validation", "test"]

DEFAULT_SIZE = 64
_SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
_SHOWN = 20
_NAMED = 5


@dataclass(frozen=True)
class FileListing:
    """Image files, and what is known about them before any is opened.

    ids ``(n,)``; targets: as those of an ImageSet; given_splits: the split that the source puts
    each file in, or None where it does not; origin: the folder, table or address, for messages;
    left_out: those of the notes that say what is not used; copy: where the files are copies, what
    they are copies of.
    """

    origin: Path | str
    paths: tuple[ImageFile, ...]
    ids: NDArray[np.str_]
    targets: Targets
    class_names: tuple[str, ...]
    given_splits: tuple[SplitName, ...] | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    copy: SourceCopy | None = None


@dataclass(frozen=True)
class _Reading:
    """What was noticed while files were read, as in `Splits`."""

    bad_files: tuple[BadFile, ...]
    odd_files: tuple[OddFile, ...]
    narrow_files: tuple[tuple[str, str], ...]


def load_files(
    listing: FileListing,
    settings: DataSettings,
    progress: Progress | None = None,
    fitting: Fitting | None = None,
) -> Splits:
    """Split, decode and cache the files of a listing.

    fitting: how images are brought to one size, in place of what the settings say. Raises DataError
    for a class that is missing in a split and, unless settings.on_bad_file is "skip", for files
    that cannot be read as images.
    """
    _check_classes(listing)
    positions, notes = _divide(listing, settings)
    if settings.train_limit:
        chosen = positions["train"]
        ids, targets = listing.ids[chosen], listing.targets[chosen]
        kept = limit(ids, targets, settings.train_limit, seed=settings.split_seed)
        positions = {**positions, "train": chosen[kept]}
    if settings.train_on_validation:
        both = np.concatenate([positions["train"], positions["validation"]])
        positions, notes = {**positions, "train": both}, (*notes, TRAINED_ON_VALIDATION)
    _check_splits(listing, _targets(listing, positions))
    usual, why = _fitting(listing, settings)
    fitting = fitting or usual
    sets, read = _decode(listing, positions, (settings, fitting), progress)
    try:
        # Again: skipped files may have been the only ones of their class.
        _check_splits(listing, {split: images.targets for split, images in sets.items()})
    except DataError as error:
        count = sum(map(len, positions.values()))
        raise _nothing_left(str(error), read.bad_files, count) from error
    narrow = (describe_narrow(read.narrow_files),) if read.narrow_files else ()
    return Splits(
        train=sets["train"],
        validation=sets["validation"],
        test=sets["test"],
        bad_files=read.bad_files,
        notes=(*listing.notes, *_similar(listing), *narrow, *notes, *filter(None, [why])),
        odd_files=read.odd_files,
        resize=fitting.resize,
        narrow_files=read.narrow_files,
    )


def _similar(listing: FileListing) -> tuple[str, ...]:
    groups = similar_names(listing.class_names)
    return (f"Class names look alike: {describe_similar(groups)}",) if groups else ()


def load_unsplit(
    listing: FileListing,
    settings: DataSettings,
    progress: Progress | None = None,
    fitting: Fitting | None = None,
) -> ImageSet:
    """The images of a listing as one set, to be evaluated on: all, or only those of its test split.

    A listing without a test split may have another. Not every class needs images. Arguments and
    errors as for `load_files`.
    """
    splits = np.array(listing.given_splits or ["test"] * len(listing.paths))
    chosen = np.flatnonzero(splits == "test")
    whole: dict[SplitName, Positions] = {
        "test": chosen if len(chosen) else np.arange(len(listing.paths))
    }
    fitting = fitting or _fitting(listing, settings)[0]
    sets, read = _decode(listing, whole, (settings, fitting), progress)
    if not len(sets["test"]):
        raise _nothing_left(f"{listing.origin} has no images", read.bad_files, len(whole["test"]))
    # The images are all that is returned, so this cannot become a note.
    warn_of_narrow(read.narrow_files)
    warn_of_left_out(listing, read.bad_files)
    return sets["test"]


def warn_of_left_out(listing: FileListing, bad: Sequence[BadFile]) -> None:
    """Warn of what is not used of a source, and of its files that were skipped."""
    said = list(listing.left_out)
    if bad:
        shown = first_of([f"{file.path} ({file.reason})" for file in bad], _NAMED, "; ")
        said.append(f"{pluralize(len(bad), 'file')} cannot be read: {shown}.")
    if said:
        warnings.warn(f"{listing.origin}: {' '.join(said)}", GlasshouseWarning, stacklevel=2)


def _divide(
    listing: FileListing, settings: DataSettings
) -> tuple[dict[SplitName, Positions], tuple[str, ...]]:
    """The positions of each split, and sentences on how they were chosen."""
    given = _given(listing)
    share, seed = settings.validation_fraction, settings.split_seed
    if set(given) <= {"train"}:
        found = three_way_split(
            listing.ids,
            listing.targets,
            validation_fraction=share,
            test_fraction=settings.test_fraction,
            seed=seed,
        )
        note = (
            f"{percentage(settings.test_fraction, 0)} of the images were held out for test and "
            f"{percentage(share, 0)} of the rest for validation, by a hash of their ids."
        )
        return dict(zip(_SPLIT_NAMES, found, strict=True)), (note,)
    if "train" not in given:
        raise DataError(
            f"{listing.origin} has only a {' and '.join(given)} split; expected a train split too"
        )
    if len(given) == 3:
        return given, ("Train, validation and test are the splits of the source.",)
    train = given["train"]
    inner, held = two_way_split(listing.ids[train], listing.targets[train], share, seed=seed)
    note = f"{percentage(share, 0)} of train were held out for validation, by a hash of their ids."
    if "test" in given:
        return {"train": train[inner], "validation": train[held], "test": given["test"]}, (note,)
    renamed = (
        "The source has a validation split but no test split. It is used as test split, for the "
        "final evaluation only, so nothing is selected on it."
    )
    return {"train": train[inner], "validation": train[held], "test": given["validation"]}, (
        renamed,
        note,
    )


def _given(listing: FileListing) -> dict[SplitName, Positions]:
    """The positions of the splits that the source gives."""
    names = np.array(listing.given_splits or ())
    found: dict[SplitName, Positions] = {
        name: np.flatnonzero(names == name) for name in _SPLIT_NAMES
    }
    given = {name: positions for name, positions in found.items() if len(positions)}
    _check_splits(listing, _targets(listing, given))
    return given


def _targets(
    listing: FileListing, positions: Mapping[SplitName, Positions]
) -> dict[SplitName, Targets]:
    return {split: listing.targets[chosen] for split, chosen in positions.items()}


def _check_classes(listing: FileListing) -> None:
    if not listing.paths:
        raise DataError(f"{listing.origin} has no images; expected images of at least two classes")
    if len(listing.class_names) < 2:
        raise DataError(
            f"{listing.origin} has only one class ('{listing.class_names[0]}'); "
            f"a classifier needs at least two{_inner_hint(listing)}"
        )
    counts = class_counts(listing.targets, len(listing.class_names)).tolist()
    # Splits of the source are checked one by one; here, one image could not be in all of them.
    needed = 2 if listing.given_splits else 3
    for name, count in zip(listing.class_names, counts, strict=True):
        if count < needed:
            raise DataError(
                f"class '{name}' of {listing.origin} has {count} image{'s' * (count != 1)}; "
                f"expected at least {needed}, so that each split has one"
            )


def _inner_hint(listing: FileListing) -> str:
    """Where the classes may be, if the only class folder holds several; else nothing."""
    paths = [PurePosixPath(str(image)).parts for image in listing.ids]
    inner = sorted({parts[1] for parts in paths if len(parts) > 2})
    if len(inner) < 2 or len({parts[0] for parts in paths}) > 1:
        return ""
    return (
        f". If the folders in it ({first_of(inner, _NAMED)}) are the classes, name "
        f"{listing.origin}/{paths[0][0]} as the source"
    )


def _check_splits(listing: FileListing, splits: Mapping[SplitName, Targets]) -> None:
    for split, targets in splits.items():
        counts = class_counts(targets, len(listing.class_names))
        missing = [n for n, count in zip(listing.class_names, counts, strict=True) if not count]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing[:_SHOWN])
            raise DataError(
                f"the {split} split of {listing.origin} has no image of class {names}; "
                "every split needs images of every class"
            )


def _decode(
    listing: FileListing,
    positions: Mapping[SplitName, Positions],
    reading: tuple[DataSettings, Fitting],
    progress: Progress | None,
) -> tuple[dict[SplitName, ImageSet], _Reading]:
    """One cache entry for all splits: a slice of a memory map is a memory map, too."""
    settings, fitting = reading
    order = np.concatenate(list(positions.values()))  # the splits one after the other
    paths = [listing.paths[number] for number in order]
    made_from = None if listing.copy is None else listing.copy.address
    try:
        cached = cached_images(paths, fitting, progress=progress, made_from=made_from)
    except DataError as error:
        if listing.copy is None:
            raise
        raise DataError(listing.copy.shown(str(error))) from error
    bad_files = tuple(sorted(set(_at_source(listing, cached.bad_files)), key=lambda b: b.path))
    if bad_files and settings.on_bad_file == "error":
        raise _bad_files(bad_files, len(paths))
    ends = np.cumsum([len(chosen) for chosen in positions.values()])
    # Bad files leave no gap, so the bounds of the splits move forward by those before them.
    bounds = [0, *np.searchsorted(cached.good, ends).tolist()]
    sets: dict[SplitName, ImageSet] = {}
    for split, start, stop in zip(positions, bounds, bounds[1:], strict=False):
        left = order[cached.good[start:stop]]
        images = ImageSet(
            cached.images[start:stop],
            listing.targets[left],
            listing.ids[left],
            listing.class_names,
            sizes=cached.sizes[start:stop],
        )
        sets[split] = with_survey(images, survey_slice(cached.survey, start, stop))
    ids = listing.ids[order[cached.good]].tolist()
    odd_files = tuple(
        OddFile(image, remark)
        for image, remarks in zip(ids, cached.oddities, strict=True)
        for remark in remarks
    )
    narrow = ((i, values) for i, values in zip(ids, cached.narrow, strict=True) if values)
    return sets, _Reading(bad_files, odd_files, tuple(dict(narrow).items()))


def _fitting(listing: FileListing, settings: DataSettings) -> tuple[Fitting, str]:
    """How the images are brought to one size, and a sentence on why where that was chosen."""
    size = settings.image_size or DEFAULT_SIZE
    if settings.resize != "auto":
        return Fitting(size, size, settings.resize), ""
    resize, why = choose_resize(listing.paths)
    return Fitting(size, size, resize), why


def _at_source(listing: FileListing, bad: Sequence[BadFile]) -> Sequence[BadFile]:
    """Files that cannot be read by the names that their owner knows."""
    copy = listing.copy
    return bad if copy is None else [BadFile(copy.shown(b.path), b.reason) for b in bad]


def _bad_files(bad: Sequence[BadFile], count: int) -> UnreadableFiles:
    return UnreadableFiles(
        f"{len(bad)} of {count} files cannot be read as images:",
        _reasons(bad),
        f"{_hint(bad)}Repair or remove them, or skip them where a command takes "
        "--set data.on_bad_file=skip (`train` also takes --on-bad-file skip).",
    )


def _nothing_left(missing: str, bad: Sequence[BadFile], count: int) -> UnreadableFiles:
    """The error for splits that miss a class, or all images, because files were skipped."""
    summary = f"{missing}. {len(bad)} of {count} files cannot be read as images:"
    return UnreadableFiles(summary, _reasons(bad), f"{_hint(bad)}Repair or replace them.")


def _reasons(bad: Sequence[BadFile]) -> list[tuple[str, str]]:
    return [(file.path, file.reason) for file in bad]


def _hint(bad: Sequence[BadFile]) -> str:
    # Windows takes both slashes; elsewhere, a backslash is a letter of the name of a file.
    if os.sep == "/" and any("\\" in file.path for file in bad):
        return "Paths in a table need forward slashes (/), not backslashes. "
    return ""
