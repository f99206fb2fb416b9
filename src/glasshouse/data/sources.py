"""From the name of a source to its training, validation and test split."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from glasshouse.data.addresses import (
    is_address,
    is_damaged_address,
    name_of_address,
    normal_address,
)
from glasshouse.data.cache import forget_files
from glasshouse.data.cifar import find_cifar, read_cifar
from glasshouse.data.digits import read_digits
from glasshouse.data.file_splits import load_files, load_unsplit, warn_of_left_out
from glasshouse.data.fitting import Fitting, Resize, fit
from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.data.listings import is_file_source, list_source, names_shards
from glasshouse.data.multi_shapes import DEFAULT_SIZE as MULTI_SIZE, make_multi_shapes
from glasshouse.data.remote_copy import forget_copy, require_remote
from glasshouse.data.shapes import DEFAULT_SIZE, make_shapes
from glasshouse.data.shards import is_packed
from glasshouse.data.splits import TRAINED_ON_VALIDATION, limit, three_way_split, two_way_split
from glasshouse.data.targets import is_matrix
from glasshouse.errors import (
    DataError,
    MissingSource,
    UsageError,
    describe_refused,
    nearest,
    require_type,
)
from glasshouse.progress import Progress
from glasshouse.settings import DataSettings
from glasshouse.storage import as_path
from glasshouse.wording import percentage, start_of_name

_SHAPES_COUNTS = {"train": 5000, "validation": 1000, "test": 1000}
_MULTI_SHAPES_COUNTS = {"train": 4000, "validation": 1000, "test": 1000}


@dataclass(frozen=True)
class Access:
    """Where a source may look for data, and how it reports progress."""

    data_dir: Path | None = None
    offline: bool = False
    progress: Progress | None = None


def load_splits(
    source: str | Path,
    settings: DataSettings | None = None,
    *,
    data_dir: str | Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Splits:
    """Load train, validation and test of a source, decoded and resized to one size.

    source: "cifar10", "digits", "shapes", "shapes-multi", a folder of class folders, a .csv or
    .parquet table, Parquet files with images, tar shards such as "shards/{000..099}.tar", or the
    address of any of them but a table, such as "s3://bucket/folder"; "./digits" is a folder of that
    name. settings: the defaults of `DataSettings` if unset. Raises UsageError for an unknown name
    and for an address where offline is set, and DataError for missing or damaged images.
    """
    settings = DataSettings() if settings is None else settings
    return load_fitted(source, settings, None, Access(as_path(data_dir), offline, progress))


def load_fitted(
    source: str | Path, settings: DataSettings, fitting: Fitting | None, access: Access
) -> Splits:
    """`load_splits` with the images brought to one size as a classifier's preprocessing does it.

    fitting: None does what the settings say.
    """
    require_type(source, (str, Path), "a source: a name such as 'digits', a folder or a table")
    require_type(settings, DataSettings, "settings such as DataSettings(image_size=32)")
    if isinstance(source, str) and source in _NAMED:
        splits = _NAMED[source](settings, access)
        # Their images are square, so all ways to resize are the same.
        resize: Resize = "crop" if settings.resize == "auto" else settings.resize
        resized = _resized(replace(splits, resize=resize), settings, fitting)
        return _joined(_limited(resized, settings), settings)
    require_source(source, offline=access.offline)
    listing = list_source(source, offline=access.offline, progress=access.progress)
    return load_files(listing, settings, access.progress, fitting)


def require_source(source: str | Path, *, offline: bool = False) -> None:
    """Raise what `load_splits` would for a name that is no source; nothing is read."""
    # An empty path is the current folder, which a variable without a value does not mean.
    if isinstance(source, str) and not source.strip():
        raise UsageError(f"the source {source!r} is empty; the current folder is '.'")
    if is_address(source):
        require_remote(str(source), offline=offline)
        return
    path = Path(source)
    try:
        is_known = has_own_size(source) or names_shards(source)
        if not (is_known or path.is_dir() or is_file_source(path)):
            raise _unknown(str(source), path)
    except OSError as error:
        raise DataError(describe_refused(error)) from error


def is_multi_label(source: str | Path) -> bool:
    """Whether the images of a source on this disk may have several labels; decodes no image.

    False for a remote one, which would have to be copied to know.
    """
    if has_own_size(source) or is_address(source):
        return source == "shapes-multi"
    require_source(source)
    return is_matrix(list_source(source).targets)


def load_for_evaluation(
    source: str | Path,
    settings: DataSettings,
    *,
    access: Access | None = None,
    fitting: Fitting | None = None,
    is_whole: bool = True,
) -> ImageSet:
    """The images of a source to evaluate a classifier on, which need not be of all its classes.

    Those of its test split, or else of its validation split. Of a source that defines no splits,
    all of them, or unless is_whole those that `load_splits` holds out for test. settings, fitting
    and errors as for `load_fitted`.
    """
    access = access or Access()
    if not has_own_size(source):
        require_source(source, offline=access.offline)
        listing = list_source(source, offline=access.offline, progress=access.progress)
        given = listing.given_splits
        # Where there is a train split, what is held out of it and why is for the usual way to say.
        if is_whole if given is None else "train" not in given:
            return load_unsplit(listing, settings, access.progress, fitting)
        splits = load_fitted(source, settings, fitting, access)
        warn_of_left_out(listing, splits.bad_files)
        return splits.test
    return load_fitted(source, settings, fitting, access).test


def read_again(source: str | Path) -> None:
    """Have the files of a source decoded again when they are next loaded, also unchanged ones.

    Those of a remote source are fetched again as well.
    """
    if is_address(source):
        forget_copy(str(source))
    elif not has_own_size(source):
        forget_files(list_source(source).paths)


def absolute_source(source: str | Path) -> str:
    """A source as it can be named from any folder: built-in ones by name, files by whole path."""
    if is_address(source):
        return normal_address(str(source))
    return str(source) if has_own_size(source) else str(Path(source).resolve())


def source_name(source: str | Path) -> str:
    """A short name for what is made from a source: that of its folder or file, without ending."""
    if has_own_size(source):
        return str(source)
    if is_address(source) or names_shards(source):
        return start_of_name(name_of_address(absolute_source(source)))
    # Resolved: "." and ".." have no name of their own.
    path = Path(source).resolve()
    return start_of_name(path.name if path.is_dir() else path.stem) or "images"


def has_own_size(source: str | Path) -> bool:
    """True for a source whose images have a fixed small size; files are decoded at any size."""
    return isinstance(source, str) and source in _NAMED


def fingerprint(splits: Splits) -> str:
    """A SHA-256 over ids, labels, class names and pixels of all splits, in hexadecimal.

    The pixels take part by the digests of their survey, so that they are not read again.
    """
    digest = hashlib.sha256()
    for images in (splits.train, splits.validation, splits.test):
        for text in ("\n".join(images.class_names), "\n".join(images.ids.tolist())):
            # With its length, so that no two lists of names can run into the same text.
            digest.update(f"{len(text)}\n{text}".encode("utf-8", "surrogateescape"))
        digest.update(f"{images.pixels.shape}".encode())
        if images.is_multi_label:
            # The bytes alone do not tell yes and no for one label from positions.
            digest.update(f"{images.targets.shape}".encode())
        digest.update(images.targets.astype("<i8").tobytes())
        digest.update(images.survey.digests.tobytes())
    return digest.hexdigest()


def _cifar10(settings: DataSettings, access: Access) -> Splits:
    folder = find_cifar(access.data_dir, offline=access.offline, progress=access.progress)
    images, test = read_cifar(folder)
    share = settings.validation_fraction
    train, validation = two_way_split(images.ids, images.labels, share, seed=settings.split_seed)
    held_out = f"{percentage(share, 0)} of the 50,000 were held out for validation"
    note = f"{held_out}; test is the official test set."
    return Splits(take(images, train), take(images, validation), test, notes=(note,))


def _digits(settings: DataSettings, access: Access) -> Splits:
    images = read_digits()
    train, validation, test = three_way_split(
        images.ids,
        images.labels,
        validation_fraction=settings.validation_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.split_seed,
    )
    note = (
        f"{percentage(settings.test_fraction, 0)} of the images were held out for test and "
        f"{percentage(settings.validation_fraction, 0)} of the rest for validation, by a hash of "
        "their ids."
    )
    return Splits(take(images, train), take(images, validation), take(images, test), notes=(note,))


def _shapes(settings: DataSettings, access: Access) -> Splits:
    size = max(DEFAULT_SIZE, settings.image_size or DEFAULT_SIZE)
    train, validation, test = (
        make_shapes(split, count, size=size) for split, count in _SHAPES_COUNTS.items()
    )
    return Splits(train, validation, test, notes=("The images are generated with seed 0.",))


def _multi_shapes(settings: DataSettings, access: Access) -> Splits:
    size = max(MULTI_SIZE, settings.image_size or MULTI_SIZE)
    train, validation, test = (
        make_multi_shapes(split, count, size=size) for split, count in _MULTI_SHAPES_COUNTS.items()
    )
    return Splits(train, validation, test, notes=("The images are generated with seed 0.",))


_NAMED: dict[str, Callable[[DataSettings, Access], Splits]] = {
    "cifar10": _cifar10,
    "digits": _digits,
    "shapes": _shapes,
    "shapes-multi": _multi_shapes,
}


def _limited(splits: Splits, settings: DataSettings) -> Splits:
    train, count = splits.train, settings.train_limit
    if count is None:
        return splits
    chosen = limit(train.ids, train.targets, count, seed=settings.split_seed)
    return replace(splits, train=take(train, chosen))


def _joined(splits: Splits, settings: DataSettings) -> Splits:
    if not settings.train_on_validation:
        return splits
    train = _concatenate(splits.train, splits.validation)
    return replace(splits, train=train, notes=(*splits.notes, TRAINED_ON_VALIDATION))


def _concatenate(first: ImageSet, second: ImageSet) -> ImageSet:
    masks = (first.masks, second.masks)
    return replace(
        first,
        pixels=np.concatenate([first.pixels, second.pixels]),
        targets=np.concatenate([first.targets, second.targets]),
        ids=np.concatenate([first.ids, second.ids]),
        masks=None if masks[0] is None else np.concatenate([m for m in masks if m is not None]),
    )


def _resized(splits: Splits, settings: DataSettings, fitting: Fitting | None) -> Splits:
    size = settings.image_size
    if fitting is None:
        if size is None or splits.train.pixels.shape[2:] == (size, size):
            return splits
        fitting = Fitting(size, size, splits.resize)
    train, validation, test = (
        _resize(images, fitting) for images in (splits.train, splits.validation, splits.test)
    )
    return replace(splits, train=train, validation=validation, test=test)


def _resize(images: ImageSet, fitting: Fitting) -> ImageSet:
    size = fitting.height
    resized = np.empty((len(images), 3, size, fitting.width), dtype=np.uint8)
    for number, image in enumerate(images.pixels):
        resized[number] = fit(image.transpose(1, 2, 0), fitting)
    masks = None
    # Masks of images that are cropped would need the same crop.
    if images.masks is not None and fitting == Fitting(size, size, fitting.resize):
        # The sources with masks have square images, for which all ways to resize are the same.
        flat = images.masks.reshape(-1, *images.masks.shape[-2:])
        resized_masks = np.stack([_resize_mask(mask, size) for mask in flat])
        masks = resized_masks.reshape(*images.masks.shape[:-2], size, size)
    return replace(images, pixels=resized, masks=masks)


def _resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((size, size), Image.Resampling.BOX)) > 127


def _unknown(name: str, path: Path) -> UsageError | DataError:
    if is_damaged_address(path):
        return UsageError(f"{name}: pass an address as text, since a path has no two slashes")
    if path.is_file():
        return DataError(
            f"{path} is not a source: expected a folder of class folders, a table (.csv, .tsv, "
            ".parquet), Parquet files with images or tar shards"
            f"{'; unpack it to class folders' if is_packed(path.name) else ''}"
        )
    if path.suffix or len(path.parts) > 1 or name.endswith(("/", "\\")):
        return MissingSource(f"the folder or table {path} does not exist")
    near = nearest(name, _NAMED)
    hint = "" if near is None else f". Did you mean '{near}'?"
    return UsageError(
        f"unknown source '{name}': expected {', '.join(_NAMED)}, a folder, a table, shards or an "
        f"address{hint}"
    )
