"""The map of a run for its page: points as bytes, images, selections, and its making.

It needs torch: pages reach it through functions that are imported at their first call.
"""

import base64
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import Splits
from glasshouse.errors import GlasshouseError, UsageError
from glasshouse.evaluation.data_map import DataMap, load_map
from glasshouse.report.encoding import image_file
from glasshouse.report.map_plots import Colouring, colourings, parts_of
from glasshouse.runs import folder as runs
from glasshouse.serving.run_cache import run_splits
from glasshouse.serving.run_lookup import run_folder
from glasshouse.serving.workbench import Workbench
from glasshouse.workflow.use.kept_map import is_of_weights
from glasshouse.workflow.use.run_map import make_run_map

Rows = NDArray[np.int64]


@dataclass
class MapWork:
    """How far the making of a map is: what is being done, and how it failed if it did."""

    words: str = "Reading the images."
    error: str = ""
    is_over: bool = False


_lock = threading.Lock()
_works: dict[Path, MapWork] = {}


def map_of_run(folder: Path) -> tuple[DataMap, int] | None:
    """The map of a run and its version; None where there is none for its present weights."""
    path = folder / runs.MAP_POINTS
    if not path.is_file():
        return None
    version = path.stat().st_mtime_ns
    found = _map(path, version)
    return (found, version) if is_of_weights(found, folder) else None


def start_map(workbench: Workbench, folder: Path, splits: Sequence[str]) -> MapWork:
    """Make the map of a run in a thread, which goes on when the page is closed; once at a time."""
    workbench.require_changes()
    with _lock:
        work = _works.get(folder)
        if work is None or work.is_over:
            work = _works[folder] = MapWork()
            threading.Thread(
                target=_make, args=(workbench, folder, tuple(splits), work), daemon=True
            ).start()
        return work


def map_work(folder: Path) -> MapWork | None:
    """The work on a map that goes on now or has failed; None where there is none."""
    with _lock:
        work = _works.get(folder)
    return None if work is None or (work.is_over and not work.error) else work


def map_points(workbench: Workbench, name: str) -> bytes:
    """The points as bytes, little-endian: what the script of the page reads in this order.

    float32: PCA ``(n, 2)``, t-SNE ``(n, 2)`` if there is one, confidence and outlier score
    ``(n,)``; uint16: class and answer ``(n,)``; uint8: the position of the colour by class, answer,
    mistake and split ``(n,)`` each.
    """
    found = _required(run_folder(workbench, name))
    planes = [found.pca] if found.tsne is None else [found.pca, found.tsne]
    wide = [*planes, found.confidence, found.unusual]
    names = [found.labels, found.predicted]
    narrow = [_part_places(found, each) for each in ("class", "predicted", "mistake", "split")]
    return b"".join(
        [
            *(each.astype("<f4").tobytes() for each in wide),
            *(each.astype("<u2").tobytes() for each in names),
            *(each.tobytes() for each in narrow),
        ]
    )


def map_looks(found: DataMap) -> dict[str, Any]:
    """The names and colours of each colouring that has a legend, for the script of the page."""
    looks = {name: parts_of(found, name) for name in colourings(found)}
    return {
        name: {"names": list(parts.names), "colours": list(parts.colours)}
        for name, parts in looks.items()
        if parts is not None
    }


def map_image(workbench: Workbench, name: str, position: int) -> tuple[bytes, str]:
    """An image of a map as a file with its media type; raises IndexError beyond the last."""
    folder = run_folder(workbench, name)
    found = _required(folder)
    if not 0 <= position < len(found):
        raise IndexError(f"the map has {len(found)} images, counted from 0")
    images = getattr(run_splits(workbench, folder), found.splits[int(found.split[position])])
    rows = np.flatnonzero(images.ids == found.ids[position])
    if not len(rows):
        raise UsageError(_gone(str(found.ids[position])))
    return image_file(images.pixels[int(rows[0])])


def require_map_images(workbench: Workbench, folder: Path, found: DataMap) -> None:
    """Read the images of a map, so that a source that is gone raises here and not for each."""
    splits: Splits = run_splits(workbench, folder)
    for place, name in enumerate(found.splits):
        ids = found.ids[found.split == place]
        missing = ids[~np.isin(ids, getattr(splits, name).ids)]
        if len(missing):
            raise UsageError(_gone(str(missing[0])))


def rows_where(
    found: DataMap, *, label: int | None, answer: int | None, mistakes: bool, words: str
) -> Rows:
    """The rows of a class, of an answer, of mistakes, and with a text in their ids; all at once."""
    kept = np.ones(len(found), dtype=bool)
    if label is not None:
        kept &= found.labels == label
    if answer is not None:
        kept &= found.predicted == answer
    if mistakes:
        kept &= ~found.right
    if words:
        kept &= np.char.find(np.char.lower(found.ids), words.lower()) >= 0
    return np.flatnonzero(kept)


def rows_of_bits(found: DataMap, bits: object) -> Rows:
    """The rows that the page has selected; raises UsageError for what no page sends."""
    try:
        flags = np.unpackbits(np.frombuffer(base64.b64decode(str(bits)), np.uint8))
    except ValueError as error:
        raise UsageError("this selection is not one of the page: reload it") from error
    if len(flags) != 8 * -(-len(found) // 8):
        raise UsageError("the map has changed since this page was opened: reload it")
    return np.flatnonzero(flags[: len(found)])


def bits_of_rows(found: DataMap, rows: Rows) -> str:
    """The same in the other direction."""
    flags = np.zeros(len(found), dtype=np.uint8)
    flags[rows] = 1
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def _make(workbench: Workbench, folder: Path, splits: tuple[str, ...], work: MapWork) -> None:
    def progress(what: str, done: int, total: int) -> None:
        work.words = f"{what[0].upper()}{what[1:]}: {done:,} of {total:,} images."

    try:
        make_run_map(
            folder, splits, data_dir=workbench.data_dir, offline=workbench.offline,
            progress=progress,
        )  # fmt: skip
    except GlasshouseError as error:
        work.error = str(error)
    except Exception as error:
        # The thread would otherwise end without a word, and the page would wait for ever.
        work.error = f"the map could not be made: {error!r}"
        raise
    finally:
        work.is_over = True


def _required(folder: Path) -> DataMap:
    found = map_of_run(folder)
    if found is None:
        raise UsageError(f"{folder.name} has no map yet")
    return found[0]


def _part_places(found: DataMap, colouring: Colouring) -> NDArray[np.uint8]:
    parts = parts_of(found, colouring)
    assert parts is not None
    return parts.of.astype(np.uint8)


def _gone(identity: str) -> str:
    return f"there is no image {identity} any more: the source has changed since the map was made"


@lru_cache(maxsize=4)
def _map(path: Path, version: int) -> DataMap:
    return load_map(path)
