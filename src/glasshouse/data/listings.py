"""From the name of a source that consists of files to the list of its images."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from glasshouse.data.addresses import expanded, has_braces, is_address, normal_address
from glasshouse.data.class_folders import is_image_name, list_folder
from glasshouse.data.file_splits import FileListing
from glasshouse.data.parquet_images import has_images, list_parquet
from glasshouse.data.remote_copy import copy_source, fetched_names
from glasshouse.data.remote_store import RemoteFile
from glasshouse.data.shards import PARQUET, TAR, Layout, as_shards, is_shard, is_visible, layout_of
from glasshouse.data.table import ENDINGS, list_table
from glasshouse.data.tar_shards import list_tars
from glasshouse.errors import DataError, UsageError
from glasshouse.progress import Progress
from glasshouse.wording import first_of, pluralize

_SINGLE = (*ENDINGS, TAR)
_SHOWN = 5


def list_source(
    source: str | Path, *, offline: bool = False, progress: Progress | None = None
) -> FileListing:
    """List the images of a folder, a table, Parquet files, tar shards or a remote address.

    A remote source is copied to the cache first. Raises DataError for what is missing or damaged,
    UsageError for an address that cannot be used, or where offline is set.
    """
    if is_address(source):
        return _list_remote(str(source), offline, progress)
    if names_shards(source):
        return _list_pattern(str(source))
    path = Path(source)
    return _list_folder(path) if path.is_dir() else _list_file(path)


def names_shards(source: str | Path) -> bool:
    """Whether a local source is a pattern of shards, such as shard-{000..099}.tar."""
    return has_braces(str(source)) and not Path(source).exists()


def is_file_source(path: Path) -> bool:
    """Whether a file may be a source by its ending."""
    return path.suffix.lower() in _SINGLE and path.is_file()


def _list_remote(address: str, offline: bool, progress: Progress | None) -> FileListing:
    # First: it refuses addresses that no message may repeat.
    address = normal_address(address)
    if PurePosixPath(address).suffix.lower() in (".csv", ".tsv"):
        raise UsageError(
            f"{address} is a table, which is read from a local disk only: copy it there with its "
            "images, or name a folder of class folders, Parquet files with images or tar shards"
        )

    def choose(files: Sequence[RemoteFile]) -> Collection[str]:
        sizes = [(file.name, file.size or 0) for file in files]
        needed = _needed(address, sizes)
        others = _besides_parquet(address, sizes)
        # They were fetched before because no Parquet file has images.
        if has_no_images or (others and not fetched_names(address).isdisjoint(others)):
            return {*needed, *others}
        return needed

    has_no_images = False
    copy = copy_source(address, choose, offline=offline, progress=progress)
    try:
        if has_no_images := _has_values_only(copy.folder):
            copy = copy_source(address, choose, offline=offline, progress=progress)
        listing = _list_folder(copy.folder)
    except DataError as error:
        raise DataError(copy.shown(str(error))) from error
    return replace(listing, origin=copy.address, copy=copy)


def _has_values_only(folder: Path) -> bool:
    """Whether Parquet files were fetched, but none with images."""
    fetched = [path for path in map(folder.joinpath, _shards_below(folder))
               if path.suffix.lower() == PARQUET and path.stat().st_size]  # fmt: skip
    return bool(fetched) and not any(map(has_images, fetched))


def _besides_parquet(address: str, files: Sequence[tuple[str, int]]) -> Collection[str]:
    """The files that are read where the Parquet files are left out; none where nothing is left."""
    others = [(name, size) for name, size in files if not is_shard(name, PARQUET)]
    names = [name for name, _ in others if is_visible(name)]
    has_any = any(is_shard(name, TAR) or is_image_name(name) for name in names)
    return _needed(address, others) if has_any else ()


def _needed(address: str, files: Sequence[tuple[str, int]]) -> Collection[str]:
    """The files whose content is read; raises DataError where nothing is an image."""
    layout = layout_of(files, address)
    names = [name for name, _ in files]
    if layout != "class folders":
        return [name for name in names if is_shard(name, layout)]
    found = [name for name in names if is_visible(name) and is_image_name(name)]
    if not found:
        raise DataError(
            f"{address} has no images in {pluralize(len(names), 'file')}: expected one folder of "
            "images per class, Parquet files with images, or tar shards"
        )
    return found


def _list_folder(folder: Path) -> FileListing:
    names = _shards_below(folder)
    if not names:
        return list_folder(folder)
    files = list(_with_sizes(folder))
    layout = layout_of(files, folder)
    if layout == PARQUET and not any(has_images(folder / n) for n in names if is_shard(n, PARQUET)):
        # Tables of paths or of other values, next to the images or far from them.
        count = sum(is_shard(name, PARQUET) for name in names)
        files = [(name, size) for name, size in files if not is_shard(name, PARQUET)]
        layout = layout_of(files, folder)
        if not any(is_shard(name, TAR) or is_image_name(name) for name, _ in files):
            raise DataError(
                f"{folder} has {pluralize(count, 'Parquet file')} without images: expected a "
                "column with their bytes; a table with paths is named itself"
            )
    names = [name for name in names if is_shard(name, layout)]
    if layout == "class folders" or not names:
        return list_folder(folder)
    listing = _list_shards([folder / name for name in names], names, layout, folder)
    loose = [name for name, _ in files if is_visible(name) and is_image_name(name)]
    return _with_left_out(listing, tuple(_loose_images(loose, layout)))


def _loose_images(names: Sequence[str], layout: Layout) -> Iterator[str]:
    if names:
        verb = "was" if len(names) == 1 else "were"
        yield (
            f"{pluralize(len(names), 'image file')} next to {layout} files, which have most of "
            f"the bytes, {verb} left out: {first_of(sorted(names), _SHOWN)}."
        )


def _with_left_out(listing: FileListing, notes: tuple[str, ...]) -> FileListing:
    return replace(listing, notes=(*notes, *listing.notes), left_out=(*notes, *listing.left_out))


def _shards_below(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if is_visible(name)]
        for name in names:
            if name.lower().endswith((PARQUET, TAR)):
                found.append((Path(place) / name).relative_to(folder).as_posix())
    return found


def _with_sizes(folder: Path) -> Iterable[tuple[str, int]]:
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            with suppress(OSError):
                yield path.relative_to(folder).as_posix(), path.stat().st_size


def _list_pattern(pattern: str) -> FileListing:
    paths = [Path(name) for name in expanded(pattern)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing):,} of the {len(paths):,} files of {pattern} do not exist, such as "
            f"{missing[0]}"
        )
    endings = {path.suffix.lower() for path in paths}
    layout: Layout = PARQUET if endings == {PARQUET} else TAR
    if endings != {layout}:
        raise DataError(f"{pattern}: expected names that end in {TAR} or {PARQUET}")
    root = Path(pattern.partition("{")[0] + "x").parent
    names = [path.relative_to(root).as_posix() for path in paths]
    return _list_shards(paths, names, layout, Path(pattern))


def _list_file(path: Path) -> FileListing:
    kind = path.suffix.lower()
    if kind == TAR or (kind == PARQUET and has_images(path)):
        return _list_shards([path], [path.name], TAR if kind == TAR else PARQUET, path)
    return list_table(path)


def _list_shards(
    paths: Sequence[Path], names: Sequence[str], layout: Layout, origin: Path
) -> FileListing:
    shards, notes = as_shards(paths, names, origin)
    listing = (list_parquet if layout == PARQUET else list_tars)(shards, origin)
    # By id, so that the same images give the same bytes however they are packed.
    order = np.argsort(listing.ids, kind="stable")
    splits = listing.given_splits
    listing = _with_left_out(listing, notes)
    return replace(
        listing,
        paths=tuple(listing.paths[number] for number in order.tolist()),
        ids=listing.ids[order],
        targets=listing.targets[order],
        given_splits=splits and tuple(splits[number] for number in order.tolist()),
    )
