"""The checks of sources that a workbench has made, kept while it runs and shown to every viewer."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import by_split
from glasshouse.data.images import ImageSet, Splits
from glasshouse.progress import Progress
from glasshouse.report.encoding import image_file
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.source_check import Examination, examine

# Each may hold a whole data set in memory.
_KEPT = 3


@dataclass(frozen=True)
class CachedCheck:
    """The check of one source, with a key for addresses; its images are numbered as one row.

    The row runs through the training, the validation and the test split, in this order.
    """

    key: str
    examination: Examination

    @property
    def splits(self) -> Splits | None:
        """None when the source could not be loaded."""
        return self.examination.splits

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each image, by its id."""
        sets = by_split(self.splits).values() if self.splits else ()
        return {name: row for row, name in enumerate(i for s in sets for i in s.ids.tolist())}

    def locate(self, row: int) -> tuple[str, ImageSet, int] | None:
        """The split that holds a row, its images and the position there; None: no such row."""
        for split, images in by_split(self.splits).items() if self.splits and row >= 0 else ():
            if row < len(images):
                return split, images, row
            row -= len(images)
        return None

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """The image of a row, uint8 ``(3, h, w)``; None where there is none."""
        found = self.locate(row)
        return None if found is None else np.asarray(found[1].pixels[found[2]])


@dataclass
class CheckCache:
    """The last few checks, by source; may be used from several threads."""

    workbench: Workbench
    _kept: "OrderedDict[str, CachedCheck]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(
        self, source: str, progress: Progress | None = None, *, again: bool = False
    ) -> CachedCheck:
        """The check of a source, made now unless it is kept; raises UsageError."""
        # The lock is held during the check: two viewers of one source wait for the same one.
        with self._lock:
            if again or source not in self._kept:
                found = examine(
                    source,
                    DataSettings(),
                    data_dir=self.workbench.data_dir,
                    offline=self.workbench.offline,
                    progress=progress,
                )
                self._kept[source] = CachedCheck(secrets.token_hex(8), found)
            self._kept.move_to_end(source)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[source]

    def with_key(self, key: str) -> CachedCheck | None:
        """The check with this key, if it is still kept."""
        # A copy, because a check in another thread may change the dictionary meanwhile; waiting
        # for the lock would hold up every image until that check is over.
        return next((found for found in list(self._kept.values()) if found.key == key), None)


@cache
def check_cache_of(workbench: Workbench) -> CheckCache:
    """The one cache of a workbench."""
    return CheckCache(workbench)


def image_of(workbench: Workbench, key: str, row: int) -> tuple[bytes, str] | None:
    """An image of a check as a file and its media type; None when it is no longer kept."""
    found = check_cache_of(workbench).with_key(key)
    pixels = None if found is None else found.image(row)
    return None if pixels is None else image_file(pixels)
