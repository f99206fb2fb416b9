"""The checks that a workbench has made: kept while it runs, and shown to every viewer."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.findings import parts_of
from glasshouse.data.images import ImageSet, Splits
from glasshouse.progress import Progress
from glasshouse.serving.workbench import Workbench
from glasshouse.settings import DataSettings
from glasshouse.workflow.use.source_check import Examination, examine

# Each may hold a whole data set in memory.
_KEPT = 3


@dataclass(frozen=True)
class Examined:
    """An examination with a key for addresses, and its images as one row."""

    key: str
    examination: Examination

    @property
    def splits(self) -> Splits | None:
        """None when the source could not be loaded."""
        return self.examination.splits

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Where an image is, by its id: its row in train, validation and test."""
        sets = parts_of(self.splits).values() if self.splits else ()
        return {name: row for row, name in enumerate(i for s in sets for i in s.ids.tolist())}

    def place(self, row: int) -> tuple[str, ImageSet, int] | None:
        """The part, its images and the row there; None where there is no such image."""
        for part, images in parts_of(self.splits).items() if self.splits and row >= 0 else ():
            if row < len(images):
                return part, images, row
            row -= len(images)
        return None

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """An image uint8 ``(3, h, w)`` of the row."""
        found = self.place(row)
        return None if found is None else np.asarray(found[1].pixels[found[2]])


@dataclass
class Examinations:
    """The last few, by source; safe to ask from several threads."""

    workbench: Workbench
    _kept: "OrderedDict[str, Examined]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(
        self, source: str, progress: Progress | None = None, *, again: bool = False
    ) -> Examined:
        """The examination of a source, made now unless there is one; raises UsageError."""
        # One at a time: two viewers of one source wait for the same check.
        with self._lock:
            if again or source not in self._kept:
                found = examine(
                    source,
                    DataSettings(),
                    data_dir=self.workbench.data_dir,
                    offline=self.workbench.offline,
                    progress=progress,
                )
                self._kept[source] = Examined(secrets.token_hex(8), found)
            self._kept.move_to_end(source)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[source]

    def with_key(self, key: str) -> Examined | None:
        """The one with this key, if it is still kept."""
        return next((found for found in list(self._kept.values()) if found.key == key), None)


@cache
def examinations_of(workbench: Workbench) -> Examinations:
    """What this workbench keeps."""
    return Examinations(workbench)
